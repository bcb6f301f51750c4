"""The file of a run's or a probe's answers, predictions.csv: one row a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation.console import UserError, reading

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FORMULA = ("=", "+", "-", "@")  # what a cell begins with that a spreadsheet would run


def prediction_table(
    table: "pd.DataFrame", probabilities: "np.ndarray", classes: Sequence[str]
) -> "pd.DataFrame":
    """Return a table with predicted, confidence and p_CLASS beside its own columns of text."""
    import pandas as pd

    best = probabilities.argmax(axis=1)
    table = table.reset_index(drop=True).map(spreadsheet_safe)
    columns = {f"p_{c}": probabilities[:, i].round(6) for i, c in enumerate(classes)}
    return table.assign(
        predicted=[spreadsheet_safe(classes[i]) for i in best],
        confidence=probabilities.max(axis=1).round(6),
    ).join(pd.DataFrame(columns))


def spreadsheet_safe(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _unmarked(text: str) -> str:
    """Undo `spreadsheet_safe`."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def read(path: Path, columns: Sequence[str], hint: str) -> "pd.DataFrame":
    """Return columns of such a file, all of them text as the run knows it, sorted by id.

    Args:
        path: the file.
        columns: "id" among them.
        hint: what to do where the file is missing or damaged.

    Raises:
        UserError: saying so.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path}: no such file; {hint}")
    with reading(path, hint):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table[list(columns)].map(_unmarked).sort_values("id", ignore_index=True)
