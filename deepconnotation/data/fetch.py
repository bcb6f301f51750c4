"""A source of addresses to a source of files."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from deepconnotation.data.download import REASONS, Limits, download, path_of
from deepconnotation.data.sources import Rejection, Source


def fetch(source: Source, folder: str | Path, limits: Limits) -> tuple[Source, pd.DataFrame]:
    """Fetch what a source has only addresses of.

    Args:
        source: as a reader found it.
        folder: gets the bytes; see `download`.
        limits: see `Limits`.

    Returns:
        The source with files instead of addresses, without those that did not come; and what
        survived, a row a class.
    """
    outcomes = download([item.url for item in source.items], folder, limits)
    items, rejections, states = [], list(source.rejections), []
    for item in source.items:
        outcome = outcomes[item.url]
        states.append((item.label, outcome.reason or "came"))
        facts = {
            "status": str(outcome.status or ""), "bytes": str(outcome.bytes),
            "seconds": str(outcome.seconds),
        }  # fmt: skip
        if outcome.reason:
            detail = outcome.detail
            rejections.append(Rejection(item.source, outcome.reason, detail, facts))
        else:
            extra = {**item.extra, **facts}
            items.append(replace(item, path=path_of(folder, item.url), url="", extra=extra))
    return replace(source, items=items, rejections=rejections), _survival(source, states)


def _survival(source: Source, states: list[tuple[str, str]]) -> pd.DataFrame:
    labels, ends = zip(*states, strict=True)
    counts = pd.crosstab(pd.Series(labels, name="class"), pd.Series(ends))
    order = ["came", *(reason for reason in REASONS if reason in counts)]
    counts = counts.reindex(index=source.emotions.classes, columns=order, fill_value=0)
    counts.insert(0, "addresses", counts.sum(axis=1))
    return counts.rename_axis(columns=None)
