"""An audit as text for the terminal and as a page."""

from pathlib import Path

import pandas as pd

from deepconnotation.data.audit import SHORTCUT, Findings
from deepconnotation.data.decode import decode
from deepconnotation.page import escape, gallery, number, page, section, table

SHOWN = 24  # groups or pairs of each kind on the page
SIDE = 96


def text(found: Findings) -> str:
    """Return the summary for the terminal: a line a kind of finding."""
    failed = found.failed()
    mark = {name: "FOUND" if failed[name] else "none" for name in failed}
    s = found.shortcuts
    single = ", ".join(f"{name} {value:.3f}" for name, value in s["one"].items())
    lines = [
        f"pictures             {found.pictures:,}",
        f"left out before      {_left_out(found)}",
        f"unreadable           {mark['unreadable']}: {len(found.unreadable):,}",
        f"placeholders         {mark['placeholders']}: {sum(map(len, found.signs)):,} pictures, "
        f"{len(found.signs)} signs",
        f"duplicates           {mark['duplicates']}: {len(found.exact)} groups of identical, "
        f"{sum(map(len, found.exact)):,} pictures; {len(found.near)} pairs nearly identical",
        f"conflicting labels   {mark['conflicts']}: {len(found.conflicts)} of those",
        f"leakage              {mark['leakage']}: "
        + ", ".join(f"{kind} {len(rows)}" for kind, rows in found.leaks.items()),
        f"shortcuts            {mark['shortcuts']}: balanced accuracy {s['all']:.3f} by metadata "
        f"alone, chance {s['chance']:.3f}" + (f" ({single})" if single else ""),
        *_holding(found),
        f"class balance        {_balance(found)}",
    ]
    if found.agreement:
        a = found.agreement
        lines.append(f"second annotator     {a['pictures']} pictures, agrees on "
                     f"{number(a['agree'])}, kappa {number(a['kappa'])}")  # fmt: skip
    if found.suspects:
        worst = found.suspects[0]
        first = f"{worst['source']} ({worst['label']}, rather {worst['instead']}?)"
        lines.append(f"suspect labels       {len(found.suspects)} listed; first: {first}")
    return "\n".join(lines)


def _left_out(found: Findings) -> str:
    parts = [f"{reason} {n:,}" for reason, n in found.not_taken.items()]
    return ", ".join(parts) or "none"


def _holding(found: Findings) -> list[str]:
    """Return lines for values that hold most of one class and little of another."""
    lines = []
    for column, values in found.holds.items():
        for value, share in values.items():
            most, least = max(share, key=share.get), min(share, key=share.get)
            if share[most] >= 0.5 and share[least] <= 0.1:
                parts = ", ".join(f"{100 * p:.0f} % of {c}" for c, p in _sorted(share))
                lines.append(f"  {column} {value}: {parts}")
    return lines


def _sorted(share: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(share.items(), key=lambda item: -item[1])


def _balance(found: Findings) -> str:
    totals = pd.DataFrame(found.classes).sum(axis=1)
    largest, smallest = totals.idxmax(), totals.idxmin()
    return (
        f"{largest} {totals.max() / totals.sum():.3f} of all, {smallest} {int(totals.min())} "
        f"pictures; ratio {totals.max() / max(totals.min(), 1):.0f}"
    )


def write(found: Findings, pictures: pd.DataFrame, name: str, command: str) -> str:
    """Return the page.

    Args:
        found: what `audit` found.
        pictures: with `source` and `path`.
        name: of the data set.
        command: that made the page.
    """
    paths = pictures.set_index("source")["path"]
    labels = pictures.set_index("source")["label"]
    paths, labels = (c[~c.index.duplicated()] for c in (paths, labels))

    def show(groups: list[list[str]]) -> str:
        cells = []
        for n, group in enumerate(groups[:SHOWN], start=1):
            for source in group[:6]:
                more = f", {len(group)} in all" if len(group) > 6 else ""
                cells.append((_pixels(paths[source]), f"{n}: {labels[source]}{more}", source))
        hidden = len(groups) - SHOWN
        rest = f"<p>{hidden} more are in audit.json.</p>" if hidden > 0 else ""
        return gallery(cells) + rest if cells else "<p>There are none.</p>"

    suspects = [(_pixels(paths[s["source"]]), f"{s['label']}, rather {s['instead']}?", s["source"])
                for s in found.suspects[:SHOWN]]  # fmt: skip
    classes = list(pd.DataFrame(found.classes).index)
    counts = [[split or "all", *(row[c] for c in classes), sum(row.values())]
              for split, row in found.classes.items()]  # fmt: skip
    single = [[k, number(v)] for k, v in found.shortcuts["one"].items()]
    bad = [[u["source"], u["reason"]] for u in found.unreadable[:100]]
    return page(f"Audit of {name}", [
        '<p class="notice">This page contains pictures of the data set; check its licence before '
        "you publish the page.</p>",
        f"<pre>{escape(text(found))}</pre><pre>{escape(command)}</pre>",
        section("Classes", table(["split", *classes, "all"], counts)),
        section("Placeholder signs", show([g[:1] for g in found.signs])),
        section("Identical pictures", show(found.exact)),
        section("Nearly identical pictures", show(found.near)),
        section("Equal pictures, different labels", show(found.conflicts)),
        section("What crosses splits", _leaks(found)),
        section("Shortcuts", "<p>Balanced accuracy of a small decision tree that sees only the "
                f"metadata, five-fold; chance is {number(found.shortcuts['chance'])}, and "
                f"{SHORTCUT} times that counts as a shortcut.</p>"
                + table(["metadata", "balanced accuracy"],
                        [*single, ["all together", number(found.shortcuts["all"])]])
                + _shares(found, classes)),
        section("Suspect labels", gallery(suspects) if suspects else "<p>Too few pictures.</p>"),
        section("Unreadable", table(["picture", "reason"], bad, text=True) if bad
                else "<p>There are none.</p>"),
    ])  # fmt: skip


def _leaks(found: Findings) -> str:
    words = {
        "exact": "identical pictures", "near": "nearly identical pictures",
        "groups": "people or groups", "derived": "derived copies outside training",
    }  # fmt: skip
    rows = [[words[kind], len(rows), "; ".join(map(str, rows[:5]))]
            for kind, rows in found.leaks.items()]  # fmt: skip
    return table(["kind", "how many", "for example"], rows, text=True)


def _shares(found: Findings, classes: list[str]) -> str:
    parts = []
    for column, values in found.holds.items():
        rows = [[value, *(f"{100 * share[c]:.0f} %" for c in classes)]
                for value, share in values.items()]  # fmt: skip
        parts.append(f"<p>Share of each class, by {column}:</p>" + table([column, *classes], rows))
    return "".join(parts)


def _pixels(path: str):
    return decode(Path(path).read_bytes(), (SIDE, SIDE)).pixels
