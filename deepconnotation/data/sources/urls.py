"""A CSV file of picture addresses with labels, of any label set."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.sources import Item, Rejection, Source, table
from deepconnotation.emotions import EmotionSet

REQUIRED = ("url", "label")


def read(path: str | Path, emotion_set: EmotionSet, drops: Sequence[str] = ()) -> Source:
    """Read a CSV file with the header `url,label` or `url,label,group`, in any order.

    Args:
        path: the file; further columns are ignored.
        emotion_set: the label set.
        drops: classes to leave out.

    Raises:
        UserError: naming the row.
    """
    used = emotion_set.drop(*drops)
    lines = table.rows(path)
    _, header = next(lines, (1, []))
    places = {name.lower(): i for i, name in enumerate(header)}
    for name in REQUIRED:
        if name not in places:
            raise UserError(f"{path} row 1: no column {name!r}; expected a header with url,label")
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for number, row in lines:
        if len(row) < len(header):
            raise UserError(
                f"{path} row {number}: expected {len(header)} columns, received {len(row)}"
            )
        label = emotion_set.canonical(row[places["label"]], f"{path} row {number}")
        group = row[places["group"]] if "group" in places else ""
        found[row[places["url"]]].append((label, group))
    items, rejections = [], []
    for url, given in found.items():
        (label, group), labels = given[0], {label for label, _ in given}
        rejections += one_label(url, labels, len(given))
        if len(labels) > 1:
            continue
        if label in used.classes:
            items.append(Item(url, label, Path(), group, url=url))
        else:
            rejections.append(Rejection(url, "dropped_class", f"class {label} was left out"))
    return Source("urls", used, items, rejections, "the pictures' owners'; see the source")


def one_label(url: str, labels: set[str], times: int) -> list[Rejection]:
    """Return the rejections of an address's rows: all where labels differ, else all but one."""
    if len(labels) > 1:
        detail = f"labelled {' and '.join(sorted(labels))}"
        return [Rejection(url, "conflicting_labels", detail)] * times
    return [Rejection(url, "repeated_row", f"again as {min(labels)}")] * (times - 1)
