"""A list of pictures' addresses without labels: somebody's own, to be asked about."""

import sys
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.download import Limits, download, path_of
from deepconnotation.data.sources import table


def fetch(path: str | Path, limits: Limits) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Fetch the addresses of a CSV file's column `url` into NAME-originals beside it.

    Args:
        path: NAME.csv; other columns are ignored.
        limits: see `Limits`.

    Returns:
        The file of each row; and file -> its address and why it is not there, "" where it is.

    Raises:
        UserError: when there is no such column or no row, or no host can be reached at all.
    """
    path = Path(path)
    lines = table.rows(path)
    _, header = next(lines, (1, []))
    names = [name.lower() for name in header]
    if "url" not in names:
        raise UserError(f"{path} row 1: no column 'url' in {','.join(header)!r}; a list of "
                        "addresses has one, and files are named themselves")  # fmt: skip
    place = names.index("url")
    urls = []
    for number, row in lines:
        if len(row) <= place:
            raise UserError(f"{path} row {number}: expected {len(header)} columns, received "
                            f"{len(row)}")  # fmt: skip
        urls.append(row[place])
    if not urls:
        raise UserError(f"{path}: no row below its header")
    folder = path.with_name(f"{path.stem}-originals")
    outcomes = download(urls, folder, limits, repeated=True)
    print(f"{folder} keeps what came, for another time", file=sys.stderr)
    files = [str(path_of(folder, url)) for url in urls]
    reasons = (f"{o.reason}: {o.detail}" if o.reason else "" for o in map(outcomes.get, urls))
    return files, dict(zip(files, zip(urls, reasons, strict=True), strict=False))
