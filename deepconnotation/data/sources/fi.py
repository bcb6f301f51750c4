"""FI (You, Luo, Jin, Yang, AAAI 2016, arXiv 1605.02677): header-less CSV files of addresses.

A row is `emotion,address,votes,votes`: five people were asked whether the picture evokes the
emotion it was searched by. Which of the two votes columns says yes is not written anywhere. In the
published set 23,308 of 89,823 pictures have a majority, so the column that gives about that share
is the one.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.sources import Item, Rejection, Source, table
from deepconnotation.data.sources.urls import one_label
from deepconnotation.emotions import FI

MAJORITY_SHARE = 23_308 / 89_823
TOLERANCE = 0.1
VOTERS = 5
ORDERS = ("disagree-agree", "agree-disagree")
Row = tuple[str, str, int, int]  # label, address, first votes, second votes


def read(
    paths: Sequence[str | Path],
    vote_order: str | None = None,
    min_agree: int = 3,
    drops: Sequence[str] = (),
) -> Source:
    """Join the files; every row that is not taken is counted.

    Args:
        paths: CSV files, or folders of them.
        vote_order: one of `ORDERS`; None takes the one whose share of majorities fits.
        min_agree: how many of five people must agree, 0 to 5.
        drops: classes to leave out.

    Returns:
        Items with `votes_for` and `votes_against`.

    Raises:
        UserError: naming the file and row, or when the votes fit neither order.
    """
    files = _files(paths)
    read_rows = [row for file in files for row in _rows(file)]
    if not read_rows:
        raise UserError(f"{files[0]}: no rows")
    order = check_order([(a, b) for _, _, a, b in read_rows], vote_order)
    used = FI.drop(*drops)
    agreed: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    rejections = []
    for label, url, first, second in read_rows:
        votes_for, against = (second, first) if order == "disagree-agree" else (first, second)
        if label not in used.classes:
            rejections.append(Rejection(url, "dropped_class", f"class {label} was left out"))
        elif votes_for < min_agree:
            detail = f"{votes_for} of {votes_for + against} agree with {label}"
            rejections.append(Rejection(url, "too_few_votes", detail))
        else:
            agreed[url].append((label, votes_for, against))
    items = []
    for url, given in agreed.items():
        labels = {label for label, _, _ in given}
        rejections += one_label(url, labels, len(given))
        if len(labels) == 1:
            label, votes_for, against = given[0]
            votes = {"votes_for": str(votes_for), "votes_against": str(against)}
            items.append(Item(url, label, Path(), extra=votes, url=url))
    return Source("fi", used, items, rejections, "the pictures' owners', on Flickr and Instagram")


def check_order(votes: Sequence[tuple[int, int]], asked: str | None) -> str:
    """Return which column comes first, checked against the share of majorities.

    Raises:
        UserError: when the share fits neither order and none was asked for, or only the other one.
    """
    shares = {
        "disagree-agree": sum(second > first for first, second in votes) / len(votes),
        "agree-disagree": sum(first > second for first, second in votes) / len(votes),
    }
    fit = [o for o in ORDERS if abs(shares[o] - MAJORITY_SHARE) <= TOLERANCE]
    told = ", ".join(f"{share:.3f} if {order}" for order, share in shares.items())
    if asked is None and len(fit) == 1:
        return fit[0]
    if asked is None:
        raise UserError(
            f"which votes column agrees? The share of majorities is {told}; expected about "
            f"{MAJORITY_SHARE:.2f}; say it with --vote-order"
        )
    if fit and asked not in fit:
        raise UserError(
            f"--vote-order {asked}: the share of majorities is {told}; expected about "
            f"{MAJORITY_SHARE:.2f}, so the columns are {fit[0]}"
        )
    return asked


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no CSV file and no class folder inside")
        files += inside
    return files


def _rows(path: Path) -> list[Row]:
    found: list[Row] = []
    for number, row in table.rows(path):
        place = f"{path} row {number}"
        if len(row) != 4:
            raise UserError(
                f"{place}: expected emotion,address,votes,votes; received {len(row)} columns"
            )
        try:
            first, second = int(row[2]), int(row[3])
        except ValueError:
            raise UserError(f"{place}: votes {row[2]!r}, {row[3]!r} are no numbers") from None
        if first < 0 or second < 0 or first + second != VOTERS:
            raise UserError(f"{place}: votes {first} and {second} do not sum to {VOTERS}")
        found.append((FI.canonical(row[0], place), row[1], first, second))
    return found
