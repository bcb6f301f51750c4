"""A CSV file of picture addresses, or of files, with labels of any label set."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.sources import SPLITS, Item, Rejection, Source, table
from deepconnotation.emotions import EmotionSet, plain


def read(path: str | Path, emotion_set: EmotionSet, drops: Sequence[str] = ()) -> Source:
    """Read a CSV file with the header `url,label` or `url,label,group`, in any order.

    Pictures that are there already have `file` in place of `url`, a path from the CSV file's
    folder. Where there is a column for every class of the set, these are votes or shares of a
    label distribution; `label` may then be missing, and is the class with most of them. A column
    `split` tells who is held out, as dev (or val) and test. Columns `valence` and `arousal` hold
    ratings on -1 to 1, or nothing.

    Args:
        path: the file; further columns are ignored.
        emotion_set: the label set.
        drops: classes to leave out.

    Raises:
        UserError: naming the row.
    """
    from deepconnotation import affect, distribution  # with pandas, which --help does not need

    used = emotion_set.drop(*drops)
    lines = table.rows(path)
    _, header = next(lines, (1, []))
    places = {plain(name): i for i, name in enumerate(header)}
    votes = [places[c] for c in emotion_set.classes if c in places]
    if len(votes) < len(emotion_set.classes):
        votes = []
    where = "url" if "url" in places or "file" not in places else "file"
    for name in (where,) if votes else (where, "label"):
        if name not in places:
            raise UserError(f"{path} row 1: no column {name!r} in {','.join(header)!r}; expected a "
                            "header with url,label or file,label")  # fmt: skip
    found: dict[str, list[tuple[str, str, str, dict]]] = defaultdict(list)
    for number, row in lines:
        if len(row) < len(header):
            raise UserError(
                f"{path} row {number}: expected {len(header)} columns, received {len(row)}"
            )
        place = f"{path} row {number}"
        shares = [_share(row[i], place) for i in votes]
        if votes and not sum(shares):
            raise UserError(f"{place}: no vote for any class")
        told = row[places["label"]] if "label" in places else (
            emotion_set.classes[shares.index(max(shares))])  # fmt: skip
        label = emotion_set.canonical(told, place)
        extra = distribution.columns(shares, emotion_set.classes) if votes else {}
        extra |= {name: _rating(row[places[name]], f"{place}: {name}")
                  for name in affect.NAMES if name in places}  # fmt: skip
        group = row[places["group"]] if "group" in places else ""
        word = row[places["split"]].lower() if "split" in places else "train"
        if word not in SPLITS:
            raise UserError(f"{place}: unknown split {word!r}; expected train, dev or test")
        found[row[places[where]]].append((label, group, SPLITS[word], extra))
    if not found:
        raise UserError(f"{path}: no row below its header")
    items, rejections = [], []
    for source, given in found.items():
        (label, group, split, extra), labels = given[0], {label for label, *_ in given}
        rejections += one_label(source, labels, len(given))
        if len(labels) > 1:
            continue
        if label not in used.classes:
            rejections.append(Rejection(source, "dropped_class", f"class {label} was left out"))
        elif where == "url":
            items.append(Item(source, label, Path(), group, extra, source, split=split))
        else:
            file = Path(path).parent / source
            items.append(Item(source, label, file, group, extra, split=split))
    return Source("urls", used, items, rejections, "the pictures' owners'; see the source")


def _number(text: str) -> float:
    """Return a number, NaN of what is none; the decimal sign may be a spreadsheet's comma."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return float("nan")


def _share(text: str, place: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise UserError(f"{place}: {text!r} is no number of votes or share")
    return value


def _rating(text: str, place: str) -> str:
    value = _number(text or "0")
    if not -1 <= value <= 1:
        raise UserError(f"{place} {text!r}: expected a number from -1 to 1, or nothing")
    return text and f"{value:.6g}"


def one_label(url: str, labels: set[str], times: int) -> list[Rejection]:
    """Return the rejections of an address's rows: all where labels differ, else all but one."""
    if len(labels) > 1:
        detail = f"labelled {' and '.join(sorted(labels))}"
        return [Rejection(url, "conflicting_labels", detail)] * times
    return [Rejection(url, "repeated_row", f"again as {min(labels)}")] * (times - 1)
