"""The table of published rows: their figures, ours in both forms, and the majority class."""

from pathlib import Path

from deepconnotation import page
from deepconnotation.console import write_atomic
from deepconnotation.metrics import with_interval
from deepconnotation.reproduce import FORMS, result, why_not
from deepconnotation.rows import ROWS

HEADER = ["row", "net", "published", "as published, ours", "honest, ours", "majority"]
REHEARSAL = ("Rehearsed on a few drawn pictures, to show that every row runs. No figure here is a "
             "result.")  # fmt: skip


def write(top: Path, rehearsed: bool) -> Path:
    """Write index.html and table.md over all rows that were run.

    Args:
        top: folder of the runs.
        rehearsed: whether they saw drawn pictures.

    Returns:
        The page's path.
    """
    rows = [_cells(row, top) for row in ROWS]
    lines = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|",
             *("| " + " | ".join(cells) + " |" for cells in rows)]  # fmt: skip
    head = f"**{REHEARSAL}**\n\n" if rehearsed else ""
    write_atomic(top / "table.md", head + "\n".join(lines) + "\n")
    words = ("Accuracy with 95 % bootstrap intervals, balanced accuracy in square brackets. As "
             "published: with the original's mistakes (nothing left out of the data, people and "
             "copies on both sides, made-up validation pictures, a join that divides 0 by 0, "
             "pictures divided by 255 twice, training on the dev split), so its figures are to be "
             "compared, not believed. Majority: always the commonest class, honest form.")
    notes = [[row.name, form, reason] for row in ROWS for form in FORMS
             if (reason := why_not(row, form, None))]  # fmt: skip
    parts = [
        *([f'<p class="notice">{page.escape(REHEARSAL)}</p>'] if rehearsed else []),
        f"<p>{page.escape(words)}</p>",
        page.table(HEADER, rows, text=True),
        page.section("Not to be run", page.table(["row", "form", "reason"], notes, text=True)),
    ]
    path = top / "index.html"
    write_atomic(path, page.page("Published rows, reproduced", parts))
    return path


def _cells(row, top: Path) -> list[str]:
    found = {form: result(top / f"{row.name}-{form}") for form in FORMS}
    ours = [_figure(found[form]) for form in FORMS]
    honest = found["honest"] or found["published"] or {}
    majority = f"{honest['accuracy']['majority']:.3f}" if "accuracy" in honest else "-"
    return [row.name, f"{row.what} ({row.project})", f"{row.figure} on {row.measured}", *ours,
            majority]  # fmt: skip


def _figure(found: dict | None) -> str:
    if found is None:
        return "not run"
    if "diverged" in found:
        return f"no figure: {found['diverged']}"
    return f"{with_interval(found['accuracy'])} [{found['balanced_accuracy']['value']:.3f}]"
