"""Whether probabilities mean what they say, and sets of answers that seldom miss the true one."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
COVERAGE = 0.9  # of prediction sets


def fit_temperature(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature T with the lowest dev loss of softmax(log_p / T).

    Guo et al., ICML 2017, arXiv 1706.04599. Above 1 the net was too sure of itself.

    Args:
        log_p: float (n, classes), logits or log-probabilities.
        labels: int (n,).
    """

    def loss(log_t: float) -> float:
        scaled = log_softmax(np.asarray(log_p, np.float64) / np.exp(log_t), axis=1)
        return -scaled[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def at_temperature(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Return float64 (n, classes): probabilities to the power of 1 / temperature, summing to 1;
    temperature is one for all, or float (n, 1)."""
    log_p = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-30))
    return np.exp(log_softmax(log_p / temperature, axis=1))


def conformal_cut(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """Return the probability from which on a class belongs to the prediction set.

    Split conformal prediction (Vovk et al. 2005; Sadinle, Lei and Wasserman 2019, arXiv
    1609.00451): the true class of a new picture is in its set with the probability asked for at
    least, if pictures are exchangeable with those of dev.

    Args:
        probabilities: float (n, classes), of the dev split.
        labels: int (n,).
        coverage: asked for, 0 to 1.
    """
    true = np.sort(probabilities[np.arange(len(labels)), labels])
    rank = len(true) + 1 - int(np.ceil((len(true) + 1) * coverage))
    return float(true[rank - 1]) if rank else 0.0


def chosen(log_p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return what dev chooses for run.json: "temperature" and, at it, "conformal_cut".

    Args:
        log_p: float (n, classes), log-probabilities of the dev split.
        labels: int (n,).
    """
    temperature = fit_temperature(log_p, labels)
    cut = conformal_cut(at_temperature(np.exp(log_p), temperature), labels, COVERAGE)
    return {"temperature": temperature, "conformal_cut": cut}


def ece(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error over `BINS` equal bins (Guo et al. 2017).

    Args:
        confidence: float (n,), the highest probability of each picture.
        right: bool (n,).
    """
    rows = reliability(confidence, right)
    return float(sum(n * abs(mean - share) for mean, share, n in rows) / max(len(right), 1))


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Return (mean confidence, share of right answers, pictures) of every bin that has some."""
    place = np.minimum((np.asarray(confidence) * BINS).astype(int), BINS - 1)
    return [
        (float(confidence[place == b].mean()), float(right[place == b].mean()), int(n))
        for b, n in enumerate(np.bincount(place, minlength=BINS)) if n
    ]  # fmt: skip


def figures(
    labels: np.ndarray, probabilities: np.ndarray, temperature: float | np.ndarray
) -> dict:  # fmt: skip
    """Return how far probabilities can be believed.

    Args:
        labels: int (n,).
        probabilities: float (n, classes), at the temperature.
        temperature: that they have been divided by; float (n, 1) where several nets answered.

    Returns:
        "temperature", of several their mean; "ece" and "ece_before", without the temperature;
        "brier", the mean squared distance to the labels, 0 to 2; "log_loss" in nats; "reliability".
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    true = probabilities[np.arange(len(labels)), labels]
    before = at_temperature(probabilities, 1 / temperature).max(axis=1)
    one_hot = np.eye(probabilities.shape[1])[labels]
    return {
        "temperature": float(np.mean(temperature)),
        "ece": ece(confidence, right),
        "ece_before": ece(before, right),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(np.maximum(true, 1e-30)).mean()),
        "reliability": reliability(confidence, right),
    }


def set_figures(
    labels: np.ndarray, probabilities: np.ndarray, cut: float | np.ndarray
) -> dict[str, float]:  # fmt: skip
    """Return "asked" and reached "coverage" of prediction sets, and their mean "size"; the cut is
    one for all, or float (n, 1)."""
    sets = probabilities >= cut
    return {
        "asked": COVERAGE,
        "coverage": float(sets[np.arange(len(labels)), labels].mean()),
        "size": float(sets.sum(axis=1).mean()),
    }
