"""A prepared data set to S3, as it is or as SageMaker's built-in classifier reads it."""

import hashlib
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deepconnotation.cloud.aws import bucket_and_prefix, refusals
from deepconnotation.console import progress, write_atomic
from deepconnotation.data import manifest
from deepconnotation.emotions import numbered

THREADS = 16
FILES = ("manifest.csv", "dataset.json", "labels.json", "rejected.csv")
#: split -> channel of the built-in algorithm; test pictures are not uploaded for it
CHANNELS = {"train": "train", "dev": "validation"}
RECORD = 0xCED7230A  # MXNet's mark at the start of a record


def upload(s3: Any, dataset: Path, address: str) -> int:
    """Upload a prepared data set; what is there already, with the same bytes, is left.

    Args:
        s3: a client.
        dataset: a prepared data set.
        address: s3://BUCKET/PREFIX.

    Returns:
        The number of files that were sent.

    Raises:
        UserError: when it is no prepared data set, or S3 refuses.
    """
    table = manifest.read(dataset)
    files = [*(f for f in FILES if (dataset / f).is_file()), *table["file"]]
    return send(s3, dataset, files, address)


def send(s3: Any, folder: Path, files: list[str], address: str) -> int:
    """Upload files of a folder under their own names, unless they are there; see `upload`."""
    bucket, prefix = bucket_and_prefix(address)
    there = dict(_there(s3, bucket, prefix))

    def one(name: str) -> int:
        data, key = (folder / name).read_bytes(), f"{prefix}/{name}".lstrip("/")
        if there.get(key) == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return 0
        with refusals():
            s3.put_object(Bucket=bucket, Key=key, Body=data)
        return 1

    sent = 0
    with ThreadPoolExecutor(THREADS) as pool, progress("files", len(files)) as advance:
        for new in pool.map(one, files):
            sent += new
            advance(1)
    return sent


def _there(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield key and MD5 of every object; an object sent in one piece has it as its ETag."""
    with refusals():
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", ()):
                yield each["Key"], each["ETag"].strip('"')


def write_records(dataset: Path, folder: Path) -> dict[str, int]:
    """Write train.rec and validation.rec, RecordIO files of the train and dev split.

    Args:
        dataset: a prepared data set.
        folder: gets the files.

    Returns:
        Channel -> number of pictures.
    """

    def line(index: int, label: int, file: str) -> bytes:
        return record(index, label, (dataset / file).read_bytes())

    return _write(dataset, folder, "rec", line)


def write_lists(dataset: Path, folder: Path) -> dict[str, int]:
    """Write train.lst and validation.lst: index, label and file inside its split, tabs between.

    See `write_records`.
    """

    def line(index: int, label: int, file: str) -> bytes:
        return f"{index}\t{label}\t{file.partition('/')[2]}\n".encode()

    return _write(dataset, folder, "lst", line)


def record(index: int, label: int, data: bytes) -> bytes:
    """Return one picture in MXNet's RecordIO form: mark, length, header, JPEG, padding.

    The header is that of mx.recordio.IRHeader: flag (uint32), label (float32), id and id2 (uint64).
    """
    content = struct.pack("<IfQQ", 0, float(label), index, 0) + data
    return struct.pack("<II", RECORD, len(content)) + content + b"\0" * (-len(content) % 4)


def _write(
    dataset: Path, folder: Path, ending: str, line: Callable[[int, int, str], bytes]
) -> dict[str, int]:  # fmt: skip
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    counts = {}
    for split, channel in CHANNELS.items():
        rows = table[table["split"] == split].sort_values("id")
        rows = rows.sample(frac=1, random_state=0)  # the algorithm reads them in their order
        pairs = enumerate(zip(numbered(rows["label"], info.classes), rows["file"], strict=True))
        lines = [line(i, label, file) for i, (label, file) in pairs]
        write_atomic(folder / f"{channel}.{ending}", b"".join(lines))
        counts[channel] = len(rows)
    return counts
