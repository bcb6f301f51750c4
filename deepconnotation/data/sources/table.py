"""CSV files that people wrote: every error names the file and the row."""

import csv
from collections.abc import Iterator
from pathlib import Path

from deepconnotation.console import UserError


def rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, stripped cells) of every row that is not empty.

    Rows are counted as a spreadsheet does, from 1. The text is UTF-8, with or without a mark;
    bytes that are none become the replacement character. Where the first row has no comma,
    semicolons or tabs separate, as spreadsheets write them where a comma is the decimal sign.

    Raises:
        UserError: when the file is missing, or holds something that no row of text holds.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"{path} row 1: UTF-16 text; save the file as UTF-8 CSV")
    number = 0
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = next((sign for sign in ",;\t" if sign in first), ",")
        reader = csv.reader(file, delimiter=separator)
        while True:
            number += 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(f"{path} row {number}: no CSV ({error}); is it damaged?") from None
            if any("\0" in cell for cell in row):
                raise UserError(f"{path} row {number}: a zero byte; is it a text file?")
            if any(cell.strip() for cell in row):
                yield number, [cell.strip() for cell in row]
