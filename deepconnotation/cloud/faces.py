"""Amazon Rekognition's emotions of faces over a folder, as Emotion-Classifier asked for them.

The service answers with eight emotions in an order of its own choosing; the project took the first
one (.599 on its pictures). The highest confidence stands beside it here.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from deepconnotation.cloud.aws import refusals
from deepconnotation.console import UserError, progress, write_atomic
from deepconnotation.data import files
from deepconnotation.data.decode import Rejected, decode
from deepconnotation.emotions import FACIAL_EXPRESSIONS, UnknownLabel
from deepconnotation.run import file_sha256

#: Rekognition's word -> class (shared facts E); UNKNOWN is none
EMOTIONS = {
    "ANGRY": "anger", "CONFUSED": "contempt", "DISGUSTED": "disgust", "FEAR": "fear",
    "HAPPY": "happiness", "CALM": "neutral", "SAD": "sadness", "SURPRISED": "surprise",
}  # fmt: skip
PRICE = 0.001  # US dollars a picture, list price of DetectFaces for the first million a month
LARGEST = 5_000_000  # bytes that DetectFaces takes
NAMES = {"encoding": "utf-8", "errors": "surrogateescape"}  # a file's name need not be text
COLUMNS = ("file", "sha256", "status", "first", "highest", "faces", "confidences", "detail")


def pictures(folder: Path) -> list[str]:
    """Return the files of a folder and its subfolders, but no system's, relative to it, by name.

    Raises:
        UserError: when there is none.
    """
    inside = files.below(folder, into_clutter=False)
    paths = [path for path in inside if not files.is_clutter(path.name)]
    found = sorted(path.relative_to(folder).as_posix() for path in paths)
    if not found:
        raise UserError(f"{folder}: no pictures")
    return found


def answered(folder: Path, out: Path) -> dict[str, dict]:
    """Return the rows that an earlier call wrote, by file; a line cut off by a crash is no row.

    Raises:
        UserError: when the table is another command's, or has the answer for another picture of
            a name that the folder has, too.
    """
    if not out.is_file():
        return {}
    with open(out, newline="", **NAMES) as file:
        rows = list(csv.DictReader(file))
    if rows and set(rows[0]) != set(COLUMNS):
        raise UserError(f"{out}: not a table of this command; give another --out")
    rows = [row for row in rows if row["detail"] is not None]
    for row in rows:
        path = folder / row["file"]
        if path.is_file() and row["sha256"] not in ("", file_sha256(path)):
            raise UserError(f"{out} has the answer for another picture than {path}; give another "
                            "--out")  # fmt: skip
    return {row["file"]: row for row in rows}


def ask(
    rekognition: Any, folder: Path, names: list[str], known: dict[str, dict], out: Path
) -> Iterator[dict]:
    """Ask for pictures that have no row yet; every answer is written before the next is asked.

    Args:
        rekognition: a client.
        folder: of the pictures.
        names: relative to it.
        known: of `answered`.
        out: CSV file to append to.

    Yields:
        A row a picture: "file"; "sha256", "" of a file that cannot be read; "status", which is
        "ok", "no_face" or "rejected"; "first" and "highest", classes or ""; "faces";
        "confidences", JSON of class -> 0 to 100; "detail".

    Raises:
        UserError: when the service refuses; what was answered is kept.
    """
    whole = _as_csv(known.values())  # without a line that a crash cut off
    write_atomic(out, whole.encode(**NAMES))
    with open(out, "a", newline="", **NAMES) as file:
        writer = csv.DictWriter(file, COLUMNS)
        left = [name for name in names if name not in known]
        with progress("pictures", len(names), len(names) - len(left)) as advance:
            yield from (known[name] for name in names if name in known)
            for name in left:
                row = {"file": name} | _row(rekognition, folder / name)
                writer.writerow(row)
                file.flush()
                advance(1)
                yield row


def _as_csv(rows: Iterable[dict]) -> str:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(rekognition: Any, path: Path) -> dict:
    empty = dict.fromkeys(COLUMNS[1:], "")
    try:
        data = path.read_bytes()
        empty["sha256"] = hashlib.sha256(data).hexdigest()
        picture = decode(data)
    except (OSError, Rejected) as error:
        return empty | {"status": "rejected", "detail": str(error)}
    if not data.startswith((b"\xff\xd8", b"\x89PNG")) or len(data) > LARGEST:
        buffer = BytesIO()
        picture.image.convert("RGB").save(buffer, "JPEG", quality=90)
        data = buffer.getvalue()
    with refusals():
        told = rekognition.detect_faces(Image={"Bytes": data}, Attributes=["EMOTIONS"])
    faces = told["FaceDetails"]
    if not faces:
        return empty | {"status": "no_face", "faces": "0"}
    largest = max(faces, key=lambda f: f["BoundingBox"]["Width"] * f["BoundingBox"]["Height"])
    given = [(EMOTIONS.get(e["Type"], ""), e["Confidence"]) for e in largest["Emotions"]]
    best = max(given, key=lambda pair: pair[1])[0]
    confidences = json.dumps({name: round(c, 3) for name, c in given if name})
    return empty | {"status": "ok", "first": given[0][0], "highest": best,
                    "faces": str(len(faces)), "confidences": confidences}  # fmt: skip


def summary(rows: list[dict]) -> list[str]:
    """Return lines for the terminal: counts and, where subfolders are classes, accuracies.

    A picture without a face, or with an emotion that is no class, is a wrong answer; one that
    could not be read was not asked for and counts nowhere.
    """
    counts = Counter(row["status"] for row in rows)
    lines = [", ".join(f"{status} {n}" for status, n in counts.most_common())]
    asked = [row for row in rows if row["status"] != "rejected"]
    try:
        labels = [FACIAL_EXPRESSIONS.canonical(row["file"].split("/")[0]) for row in asked]
    except UnknownLabel:
        return lines
    for which in ("first", "highest"):
        right = [row[which] == label for row, label in zip(asked, labels, strict=True)]
        shares = [
            sum(r for r, its in zip(right, labels, strict=True) if its == label) / n
            for label, n in Counter(labels).items()
        ]
        balanced = sum(shares) / len(shares)
        lines.append(f"{which} emotion: accuracy {sum(right) / len(right):.3f}, balanced "
                     f"{balanced:.3f}, {len(right)} pictures")  # fmt: skip
    return lines
