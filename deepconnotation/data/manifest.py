"""The table of a prepared data set: its columns, reading, writing and checking.

    DATASET/manifest.csv    one row an image; row order never carries meaning
    DATASET/dataset.json    name, classes, image size, counts, sha256 of the manifest
    DATASET/labels.json     the original project's file: trainX, trainY, devX, devY, testX, testY
    DATASET/SPLIT/CLASS/ID.jpg

Moving pictures between splits must survive a kill: `move_to` first writes the new table as
`manifest.csv.next`, then renames the files, then the table; `finish_move` completes what was begun.
"""

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from deepconnotation import __version__
from deepconnotation.console import UserError, reading, write_atomic
from deepconnotation.data import pack

SPLITS = ("train", "dev", "test")
COLUMNS = (
    "id", "file", "source", "label", "split", "group", "sha256", "phash", "width", "height",
    "votes_for", "votes_against",
)  # fmt: skip
REQUIRED = ("id", "file", "label", "split")


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json says beside the counts.

    Attributes:
        name: the data set's name, for example "fi".
        emotion_set: name of the label set, with merges and dropped classes.
        classes: class names in the official order; a label's id is its index here.
        height: rows of every prepared picture.
        width: columns of every prepared picture.
        grey: whether every picture was made grey.
        licence: what the data's owner allows.
        drawn: True for pictures the package drew itself; no figure on them is ever quoted.
        split: how the splits were made, in words.
        learned_from: data sets, with their licences, that the runs which labelled some of its
            pictures have learned from, see `pseudo`.
        faces: whether every picture is a face that was cut out of a larger one.
    """

    name: str
    emotion_set: str
    classes: tuple[str, ...]
    height: int
    width: int
    grey: bool
    licence: str
    drawn: bool = False
    split: str = ""
    learned_from: tuple[str, ...] = ()
    faces: bool = False


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV text: known columns first, rows by id, so equal tables are equal."""
    extra = [c for c in table.columns if c not in COLUMNS]
    full = table.reindex(columns=[*COLUMNS, *extra]).fillna("").sort_values("id", kind="stable")
    return full.to_csv(index=False, lineterminator="\n")


def exists(dataset: str | Path) -> bool:
    """Tell whether a folder is a finished data set."""
    finish_move(dataset)
    return (Path(dataset) / "manifest.csv").exists()


def read(dataset: str | Path) -> pd.DataFrame:
    """Read and check a data set's manifest.

    Returns:
        A table of strings, one row an image, indexed 0..n-1, with at least `COLUMNS`.

    Raises:
        UserError: naming the file and the row, when the table is missing, unreadable or
            contradicts itself.
    """
    dataset = Path(dataset)
    finish_move(dataset)
    path = dataset / "manifest.csv"
    if not path.is_file():
        raise _missing(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV file ({error})") from None
    missing = [c for c in REQUIRED if c not in table.columns]
    if missing:
        raise UserError(f"{path}: column {missing[0]!r} is missing; prepare the data set again")
    _check_rows(table, read_info(dataset), path)
    return table.reindex(columns=[*dict.fromkeys((*COLUMNS, *table.columns))], fill_value="")


def numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """Return float64 (rows,), a column as numbers; NaN where it is empty or not there."""
    return pd.to_numeric(table.get(column, pd.Series("", table.index)), errors="coerce")


def copies(table: pd.DataFrame) -> pd.Series:
    """Return bool (rows,): pictures that were made from another one, see `balance`."""
    return _told(table, "derived_from")


def bound_to_training(table: pd.DataFrame) -> pd.Series:
    """Return bool (rows,): pictures that nobody may be tested on, copies and those that a run has
    labelled, see `pseudo`."""
    return copies(table) | _told(table, "answered_by")


def _told(table: pd.DataFrame, column: str) -> pd.Series:
    return table.get(column, pd.Series("", table.index)) != ""


def _check_rows(table: pd.DataFrame, info: DatasetInfo, path: Path) -> None:
    def complain(bad: pd.Series, what: str) -> None:
        if bad.any():
            row = int(bad.to_numpy().argmax())
            # Row 1 is the header, as an editor or a spreadsheet counts.
            raise UserError(f"{path} row {row + 2}: {what.format(**table.iloc[row])}")

    complain(table["id"].duplicated(), "id {id!r} occurs twice")
    complain(~table["label"].isin(info.classes), "label {label!r} is no class of dataset.json")
    complain(~table["split"].isin(("", *SPLITS)), "split {split!r} is not train, dev or test")
    parts = table["file"].str.split("/")
    unsafe = table["file"].str.startswith("/") | parts.map(lambda p: ".." in p)
    complain(unsafe, "file {file!r} leads out of the data set")


def read_info(dataset: str | Path) -> DatasetInfo:
    """Read dataset.json.

    Raises:
        UserError: when it is missing or damaged.
    """
    path = Path(dataset) / "dataset.json"
    try:
        with reading(path, "prepare the data set again"):
            fields = json.loads(path.read_text("utf-8"))
            known = {k: fields[k] for k in DatasetInfo.__dataclass_fields__ if k in fields}
            return _with_tuples(known)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is {dataset} a prepared data set?") from None


def _with_tuples(fields: dict) -> DatasetInfo:
    """Return what JSON has as lists."""
    return DatasetInfo(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def write(dataset: str | Path, text: str, info: DatasetInfo) -> None:
    """Write manifest.csv, dataset.json and labels.json, each atomically.

    Args:
        dataset: the data set's folder.
        text: the table, as `to_csv` returns it.
        info: what dataset.json is to say.
    """
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    counts = table.groupby(["split", "label"]).size()
    record = {
        **asdict(info),
        "images": len(table),
        "counts": {
            split: {c: int(counts.get((split, c), 0)) for c in info.classes}
            for split in sorted(table["split"].unique())
        },
        "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "tool_version": __version__,
    }
    write_atomic(Path(dataset) / "manifest.csv", text)
    write_atomic(Path(dataset) / "dataset.json", json.dumps(record, indent=2) + "\n")
    write_atomic(Path(dataset) / "labels.json", json.dumps(_original_labels(table, info)) + "\n")


def _original_labels(table: pd.DataFrame, info: DatasetInfo) -> dict[str, list]:
    ids = {c: i for i, c in enumerate(info.classes)}
    lists: dict[str, list] = {}
    for split in SPLITS:
        part = table[table["split"] == split].sort_values("id", kind="stable")
        lists[f"{split}X"] = part["file"].tolist()
        lists[f"{split}Y"] = [ids[c] for c in part["label"]]
    return lists


def fingerprint(dataset: str | Path) -> str:
    """Return the sha256 of manifest.csv, which names the data of a run and keys the cache.

    Raises:
        UserError: when there is none.
    """
    path = Path(dataset) / "manifest.csv"
    if not path.is_file():
        raise _missing(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _missing(path: Path) -> UserError:
    return UserError(f"{path}: no such file; make a data set with deepconnotation prepare")


def file_of(split: str, label: str, image_id: str) -> str:
    """Return a picture's place in the ImageFolder layout."""
    return f"{split}/{label}/{image_id}.jpg"


def move_to(dataset: str | Path, table: pd.DataFrame, info: DatasetInfo) -> None:
    """Put every picture where the table's `split` says, and make the table the manifest.

    Args:
        dataset: a prepared data set.
        table: its manifest with new `split` values; `file` still says where a picture is.
        info: what dataset.json is to say.
    """
    new = [file_of(*row) for row in table[["split", "label", "id"]].itertuples(index=False)]
    plan = {
        "moves": [[old, to] for old, to in zip(table["file"], new, strict=True) if old != to],
        "manifest": to_csv(table.assign(file=new)),
        "info": asdict(info),
    }
    write_atomic(Path(dataset) / "manifest.csv.next", json.dumps(plan))
    finish_move(dataset)


def finish_move(dataset: str | Path) -> None:
    """Complete a move that was begun, if there is one; harmless to repeat."""
    dataset = Path(dataset)
    try:
        plan = json.loads((dataset / "manifest.csv.next").read_text("utf-8"))
    except FileNotFoundError:
        return
    for folder in {os.path.dirname(new) for _, new in plan["moves"]}:
        (dataset / folder).mkdir(parents=True, exist_ok=True)
    packed = [move for move in plan["moves"] if pack.is_packed(move[0])]
    files = [move for move in plan["moves"] if not pack.is_packed(move[0])]
    try:
        pack.unpack(dataset, packed)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: the prepared pictures are gone; delete {dataset} and prepare again"
        ) from None
    for old, new in files:
        try:
            os.replace(f"{dataset}/{old}", f"{dataset}/{new}")
        except FileNotFoundError:
            if not (dataset / new).exists():
                raise UserError(
                    f"{dataset / old}: the picture is gone; prepare the data set again"
                ) from None
    for folder in {os.path.dirname(old) for old, _ in files}:
        _remove_empty(dataset / folder, dataset)
    write(dataset, plan["manifest"], _with_tuples(plan["info"]))
    (dataset / "manifest.csv.next").unlink()


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
