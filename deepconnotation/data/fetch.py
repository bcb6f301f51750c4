"""A source of addresses to a source of files."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from deepconnotation.data.download import FACTS, REASONS, Limits, download, path_of
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
        values = (outcome.status or "", outcome.bytes, outcome.seconds)
        facts = dict(zip(FACTS, map(str, values), strict=True))
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
