"""Sources to a prepared data set: decode, resize, find duplicates, split, write.

Finished pictures are noted in a journal under DATASET/.work, so that a run that was killed goes on
where it stopped and ends with the same bytes as one that was not.
"""

import csv
import hashlib
import io
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from deepconnotation.console import (
    UserError,
    alone_in,
    naming,
    progress,
    text_table,
    write_atomic,
)
from deepconnotation.data import duplicates, faces, manifest, pack, split
from deepconnotation.data.decode import Picture, Rejected, decode, part
from deepconnotation.data.download import FACTS, PLACEHOLDER_TIMES
from deepconnotation.data.engine import run, worker_pool
from deepconnotation.data.sources import Item, Rejection, Source, image_ids

JPEG_QUALITY = 95
CHUNK = 64  # pictures a task: large enough to hide the cost of handing it over

Job = tuple[str, str, tuple[int, int, int, int] | None]  # id, file, box


def prepare(
    source: Source,
    out: str | Path,
    size: int,
    grey: bool = False,
    fractions: str = "80/10/10",
    seed: int = 0,
    workers: int | None = None,
    keep_duplicates: bool = False,
    allow_missing: bool = False,
    engine: str = "local",
    as_published: bool = False,
    cut_faces: bool = False,
) -> pd.DataFrame:
    """Make the prepared data set of a source.

    Args:
        source: what a reader found.
        out: the data set's folder; may hold an interrupted run with the same settings.
        size: height and width of the prepared pictures, pixels.
        grey: make every picture grey, so that colour cannot tell the label.
        fractions: see `split.parse_fractions`.
        seed: of the split.
        workers: processes; None takes one a core.
        keep_duplicates: keep byte-identical copies (always in one split) instead of dropping them.
        allow_missing: accept a split in which a class does not occur.
        engine: where pictures are decoded; see `engine.run`.
        as_published: leave nothing out and split at random by picture, so that people, copies and
            hosts' signs are on both sides, as in the original projects. For `reproduce` alone.
        cut_faces: take the largest face of each picture instead of the picture, see `faces.find`;
            one without is not taken.

    Returns:
        The manifest.

    Raises:
        UserError: when `out` holds something else or another process is at work there, no picture
            could be taken, or faces are to be cut out and OpenCV is not installed or the source
            tells where they are.
    """
    if cut_faces:
        faces.opencv()  # here, and not in some process in the midst of the work
        if any(item.box for item in source.items):
            raise UserError(f"--faces: {source.name} tells where its faces are; leave it out")
    out = Path(out)
    parts = split.parse_fractions(fractions)
    info = manifest.DatasetInfo(
        source.name, source.emotions.name, source.emotions.classes, size, size, grey,
        source.licence, source.drawn, faces=cut_faces,
    )  # fmt: skip
    if (done := _finished(out, info)) is not None:
        return done
    ids = image_ids(item.source for item in source.items)
    # The split is made afterwards: another one may follow without decoding again.
    settings = {"size": size, "grey": grey, "sources": _digest(source)}
    settings |= {"faces": True} if cut_faces else {}  # as where it was not yet known
    journal = _open_journal(out, settings)
    with alone_in(out):
        records = _decode_all(source.items, ids, out, info, journal, workers, engine)

        table, rejections = _table(source.items, ids, records)
        table, dropped = (table, []) if as_published else drop_repeats(table, keep_duplicates)
        rejections = [*source.rejections, *rejections, *dropped]
        if table.empty:
            _write_rejected(out, rejections)
            counts = list(rejection_counts(out).items())[:3]
            common = ", ".join(f"{reason} {n}" for reason, n in counts)
            raise UserError(f"no picture could be taken ({common}); {out / 'rejected.csv'} says "
                            "more")  # fmt: skip
        official = table["split"] != ""
        given = sorted(set(table["split"][official]))
        parts = split.without(parts, given) if not official.all() else parts
        whole = table
        if as_published:
            labels = table["label"][~official].tolist()
            table.loc[~official, "split"] = split.assign(labels, range(len(labels)), parts, seed)
            table = table.assign(group="")
        else:
            table = resplit(out, table, parts, seed, official)
        _write_rejected(out, [*rejections, *_near_official(whole, table)])
        if not allow_missing:
            split.check_classes(
                split.class_counts(table, info.classes, None if official.any() else parts)
            )
        words = describe_split(fractions, seed)
        if as_published:
            words = f"{fractions} at random by picture at seed {seed}, nothing left out"
        elif official.all():
            words = "given with the data; people and near-duplicates may cross"
        elif official.any():
            held_out = " and ".join(given) + (" splits" if len(given) > 1 else " split")
            words = f"official {held_out}; the others {words}"
        manifest.move_to(out, table, replace(info, split=words))
        shutil.rmtree(out / ".work")
    return manifest.read(out)


def summary(dataset: str | Path) -> str:
    """Return what was taken and what was not, as text for the terminal."""
    table, info = manifest.read(dataset), manifest.read_info(dataset)
    lines = [text_table(split.class_counts(table, info.classes)), f"taken: {len(table)}"]
    reasons = rejection_counts(dataset)
    lines += [f"not taken, {reason}: {n}" for reason, n in reasons.items()]
    if reasons:
        lines.append(f"each is listed in {Path(dataset) / 'rejected.csv'}")
    return "\n".join(lines)


def rejection_counts(dataset: str | Path) -> dict[str, int]:
    """Return reason -> number of rows of rejected.csv, the commonest first."""
    path = Path(dataset) / "rejected.csv"
    if not path.exists():
        return {}
    rejected = pd.read_csv(path, dtype=str, keep_default_na=False)
    return rejected["reason"].value_counts().to_dict()


def describe_split(fractions: str, seed: int) -> str:
    """Return the words by which dataset.json remembers how its splits were made."""
    return f"{fractions} stratified at seed {seed}, groups and near-duplicates kept together"


def resplit(
    dataset: Path,
    table: pd.DataFrame,
    fractions: dict[str, float],
    seed: int,
    official: pd.Series | None = None,
) -> pd.DataFrame:
    """Give every row a split and a group that no other split shares.

    A picture keeps its person as `group`; pictures that are nearly equal, and the people on them,
    take the name of the first of them.

    Args:
        dataset: the data set's folder.
        table: its manifest.
        fractions: see `split.parse_fractions`.
        seed: of the split.
        official: bool (rows,), pictures that keep the split that they have; others of their groups
            are left out.

    Raises:
        UserError: when it holds pictures that must not leave the training split.
    """
    if manifest.bound_to_training(table).any():
        raise UserError(f"{dataset} holds copies, or pictures that a run labelled; split the data "
                        "set that it came from")  # fmt: skip
    hashes = np.array([int(h, 16) for h in table["phash"]], np.uint64)

    def thumbnails_of(rows: np.ndarray) -> Iterator[Image.Image]:
        with worker_pool() as pool:
            paths = [f"{dataset}/{name}" for name in table["file"].iloc[rows]]
            yield from pool.map(read_thumbnail, paths, chunksize=CHUNK)

    # A person's group of an earlier call is kept: joining is idempotent.
    groups = table["group"].tolist()
    pairs = duplicates.near_pairs(hashes, groups, thumbnails_of)
    clusters = duplicates.join_groups(groups, pairs)
    names = table["group"].where(table["group"] != "", table["id"])
    group = names.groupby(clusters).transform("first")
    alone = pd.Series(clusters).map(pd.Series(clusters).value_counts()).eq(1).to_numpy()
    group = group.mask(alone & (table["group"] == "").to_numpy(), "")
    table = table.assign(group=group)
    kept = np.zeros(len(table), bool) if official is None else official.to_numpy()
    free = ~kept & ~np.isin(clusters, clusters[kept])
    if free.any():
        labels = table["label"][free].tolist()
        table.loc[free, "split"] = split.assign(labels, clusters[free], fractions, seed)
    return table[kept | free].reset_index(drop=True)


def _near_official(whole: pd.DataFrame, taken: pd.DataFrame) -> list[Rejection]:
    left_out = whole["source"][~whole["id"].isin(taken["id"])]
    detail = "nearly equal to a picture of an official split"
    return [Rejection(source, "near_official", detail) for source in left_out]


def read_thumbnail(name: str) -> Image.Image:
    """Return the thumbnail of a prepared picture, packed or a file."""
    return duplicates.thumbnail(decode(pack.read(name)).image)


def drop_repeats(
    table: pd.DataFrame, keep_duplicates: bool = False
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Take out byte-identical pictures by rule.

    The same bytes under two labels carry no label: a host's "photo no longer available" sign when
    they came at least five times, contradicting labels otherwise; all of them go. Under one label
    the first stays, which is a held-out one where the data set's own makers held one out.
    """
    gone: dict[int, tuple[str, str]] = {}
    repeated = table[table["sha256"].duplicated(keep=False)]
    repeated = repeated.sort_values("split", key=lambda split: split == "", kind="stable")
    for _, same in repeated.groupby("sha256"):
        labels = Counter(same["label"])
        if len(labels) > 1:
            placeholder = len(same) >= PLACEHOLDER_TIMES
            reason = "placeholder" if placeholder else "conflicting_labels"
            detail = f"the same bytes {len(same)} times under {len(labels)} labels"
            gone.update(dict.fromkeys(same.index, (reason, detail)))
        elif not keep_duplicates:
            first = same.iloc[0]["source"]
            gone.update(dict.fromkeys(same.index[1:], ("duplicate", f"same bytes as {first}")))
    rejections = [Rejection(table.at[i, "source"], *why) for i, why in sorted(gone.items())]
    return table.drop(index=list(gone)).reset_index(drop=True), rejections


def _digest(source: Source) -> str:
    listing = "\n".join(f"{i.source}\t{i.label}\t{i.group}\t{i.box}" for i in source.items)
    return hashlib.sha256(listing.encode()).hexdigest()


def _finished(out: Path, info: manifest.DatasetInfo) -> pd.DataFrame | None:
    if not manifest.exists(out):
        return None
    there = manifest.read_info(out)
    if replace(there, split="") != info:
        raise UserError(f"{out} holds another data set or other settings; choose another --out")
    shutil.rmtree(out / ".work", ignore_errors=True)
    return manifest.read(out)


def _open_journal(out: Path, settings: dict) -> Path:
    work = out / ".work"
    if out.exists() and not work.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and no prepared data set; choose another --out")
    (work / "packs").mkdir(parents=True, exist_ok=True)
    note = work / "settings.json"
    text = json.dumps(settings)
    if note.exists() and note.read_text("utf-8") != text:
        raise UserError(f"{out} holds an unfinished run with another --size, --grey, --faces or "
                        "source; delete the folder, or go on with the same ones")  # fmt: skip
    write_atomic(note, text)
    return work / "journal.jsonl"


def _read_journal(journal: Path) -> dict[str, dict]:
    records = {}
    if journal.exists():
        for line in journal.read_bytes().splitlines():
            try:
                records.update({r["id"]: r for r in json.loads(line)})
            except ValueError:
                pass  # The line that was being written when the run was killed.
    return records


def _decode_all(
    items: list[Item], ids: list[str], out: Path, info: manifest.DatasetInfo, journal: Path,
    workers: int | None, engine: str,
) -> dict[str, dict]:  # fmt: skip
    records = _read_journal(journal)
    todo = [
        (i, os.path.abspath(item.path), item.box)
        for i, item in zip(ids, items, strict=True)
        if i not in records
    ]
    packs = str((journal.parent / "packs").resolve())
    chunks = [(todo[k : k + CHUNK], packs, info) for k in range(0, len(todo), CHUNK)]
    with (
        naming(journal),
        open(journal, "ab") as log,
        progress("pictures", len(ids), len(records)) as advance,
    ):
        log.write(b"\n")  # ends a line that a kill cut short
        for result in run(engine, prepare_chunk, chunks, workers):
            log.write(json.dumps(result).encode() + b"\n")
            log.flush()
            records.update({r["id"]: r for r in result})
            advance(len(result))
    return records


def prepare_chunk(
    chunk: list[Job], packs: str, info: manifest.DatasetInfo
) -> list[dict[str, str | int]]:
    """Prepare some pictures; what could not be taken is a record with a reason.

    Args:
        chunk: id, file and box of each; see `decode`.
        packs: folder that gets their JPEG files in one, named by the first picture's id.
        info: of the data set; tells their size, and whether they are grey and faces cut out.

    Returns:
        One record a picture: id, file (its name in the pack), sha256, width, height, phash; or
        id, reason, detail.
    """
    found = [_prepare_one(job, info) for job in chunk]
    taken = [one for one in found if one[1] is not None]
    hashes = duplicates.perceptual_hashes([duplicates.thumbnail(image) for _, image in taken])
    # Not renamed into place: what the journal does not name is written again after a kill.
    names = pack.write(f"{packs}/{chunk[0][0]}", [encode(image) for _, image in taken])
    for (record, _), phash, name in zip(taken, hashes, names, strict=True):
        record["phash"] = phash
        record["file"] = f".work/packs/{os.path.basename(name)}"
    return [record for record, _ in found]


def encode(image: Image.Image) -> bytes:
    """Return a prepared picture as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _prepare_one(
    job: Job, info: manifest.DatasetInfo
) -> tuple[dict[str, str | int], Image.Image | None]:
    """Return a picture's record and pixels, or why it was not taken and None."""
    image_id, path, box = job
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
        picture = _picture(data, box, info)
    except OSError as error:
        detail = error.strerror or str(error)
        return {"id": image_id, "reason": "unreadable", "detail": detail}, None
    except Rejected as rejected:
        return {"id": image_id, "reason": rejected.reason, "detail": rejected.detail}, None
    record = {
        "id": image_id,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": picture.width,
        "height": picture.height,
    }
    return record, picture.image


def _picture(
    data: bytes, box: tuple[int, int, int, int] | None, info: manifest.DatasetInfo
) -> Picture:
    size = info.height, info.width
    if not info.faces:
        return decode(data, size, info.grey, box)
    whole = decode(data, grey=info.grey)
    return part(whole, faces.largest(whole.image), size)


def _table(
    items: list[Item], ids: list[str], records: dict[str, dict]
) -> tuple[pd.DataFrame, list[Rejection]]:
    rows: dict[str, list] = defaultdict(list)
    rejections = []
    for image_id, item in sorted(zip(ids, items, strict=True), key=lambda pair: pair[0]):
        record = records[image_id]
        if "reason" in record:
            facts = {c: item.extra[c] for c in FACTS if c in item.extra}
            rejections.append(Rejection(item.source, record["reason"], record["detail"], facts))
            continue
        values = {
            **dict.fromkeys(manifest.COLUMNS, ""), **item.extra, **record, "source": item.source,
            "label": item.label, "group": item.group, "split": item.split,
        }  # fmt: skip
        for column, value in values.items():
            rows[column].append(str(value))
    return pd.DataFrame(rows, columns=list(rows) or list(manifest.COLUMNS)), rejections


def _write_rejected(out: Path, rejections: list[Rejection]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    extra = [c for c in FACTS if any(c in r.extra for r in rejections)]
    writer.writerow(("source", "reason", "detail", *extra))
    writer.writerows(
        sorted(
            (r.source, r.reason, r.detail, *(r.extra.get(c, "") for c in extra)) for r in rejections
        )
    )
    write_atomic(out / "rejected.csv", text.getvalue())
