"""Valence and arousal: how pleasant, and how stirring, a picture is; both on -1 to 1.

Russell's circumplex (Journal of Personality and Social Psychology 1980) has them for axes. A value
that nobody gave is NaN and counts nowhere.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepconnotation.data.manifest import numbers
from deepconnotation.metrics import draw_groups, interval, with_interval

NAMES = ("valence", "arousal")
FIGURES = ("ccc", "rmse", "sagr")


def values(table: pd.DataFrame) -> np.ndarray:
    """Return float32 (rows, 2), a manifest's valence and arousal; NaN where it has none."""
    return np.stack([numbers(table, name) for name in NAMES], axis=1).astype(np.float32)


def figures(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return how well values agree.

        CCC  = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2)    (Lin, Biometrics 1989)
        RMSE = sqrt(mean (x - y)^2)
        SAGR = share of equal signs                                   (Nicolaou et al. 2011)

    Args:
        true: float (n,), no NaN.
        predicted: float (n,).
        weights: float (draws, n), how often each picture counts.

    Returns:
        Name in `FIGURES` -> float64 (draws,). CCC is -1 to 1, 1 is perfect, and 0 where one side is
        constant.
    """
    x, y = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    share = weights / weights.sum(axis=1, keepdims=True)
    mx, my = share @ x, share @ y
    vx, vy = share @ x**2 - mx**2, share @ y**2 - my**2
    spread = vx + vy + (mx - my) ** 2
    return {
        "ccc": 2 * (share @ (x * y) - mx * my) / np.where(spread > 0, spread, 1),
        "rmse": np.sqrt(share @ (x - y) ** 2),
        "sagr": share @ (np.sign(x) == np.sign(y)).astype(np.float64),
    }


def summarise(
    true: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0
) -> dict[str, dict]:
    """Measure predictions, with bootstrap intervals of whole groups.

    Args:
        true: float (n, 2), NaN where missing.
        predicted: float (n, 2).
        groups: who or what a picture belongs to; "" alone.
        seed: of the bootstrap.

    Returns:
        "valence" and "arousal" -> "pictures" and, where there are any, each of `FIGURES` ->
        "value", "low", "high".
    """
    found: dict[str, dict] = {}
    for axis, name in enumerate(NAMES):
        known = np.flatnonzero(np.isfinite(true[:, axis]))
        found[name] = {"pictures": len(known)}
        if not len(known):
            continue
        owner, blocks = draw_groups([groups[i] for i in known], seed)
        pair = true[known, axis], predicted[known, axis]
        value = figures(*pair, np.ones((1, len(known))))
        draws = [figures(*pair, weights[:, owner].astype(np.float64)) for weights in blocks]
        for figure in FIGURES:
            low, high = interval(np.concatenate([block[figure] for block in draws]))
            found[name][figure] = {"value": float(value[figure][0]), "low": low, "high": high}
    return found


def mean_ccc(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean CCC of the axes that have values, 0 where none has; see `summarise`."""
    found = []
    for x, y in zip(true.T, predicted.T, strict=True):
        known = np.isfinite(x)
        if known.any():
            found.append(figures(x[known], y[known], np.ones((1, known.sum())))["ccc"][0])
    return float(np.mean(found)) if found else 0.0


def as_text(summary: dict[str, dict]) -> str:
    """Return `summarise`'s figures as aligned lines."""
    lines = []
    for name, found in summary.items():
        cells = []
        for figure in (figure for figure in FIGURES if figure in found):
            cells.append(f"{figure.upper()} {with_interval(found[figure])}")
        lines.append(f"{name:20}{'   '.join(cells)}   {found['pictures']} pictures")
    return "\n".join(lines)
