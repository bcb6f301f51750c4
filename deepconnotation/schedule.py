"""How the learning rate moves, and when a figure has stopped getting better."""

import math
from dataclasses import asdict, dataclass


def learning_rate(
    schedule: str, base: float, progress: float, warmup: float, milestones: tuple[float, ...] = ()
) -> float:
    """Return the rate at a moment of the training.

    Args:
        schedule: "constant"; "cosine", from `base` to 0 (Loshchilov and Hutter 2017, arXiv
            1608.03983); "step", a tenth after every milestone.
        base: the highest rate.
        progress: share of all steps done, 0 to 1.
        warmup: share of all steps in which the rate climbs linearly from 0 to `base`; below 1.
        milestones: shares of all steps, for "step".
    """
    if progress < warmup:
        return base * progress / warmup
    if schedule == "cosine":
        share = (progress - warmup) / (1 - warmup)
        return max(base * 0.5 * (1 + math.cos(math.pi * share)), 0.0)
    if schedule == "step":
        return base * 0.1 ** sum(progress >= m for m in milestones)
    return base


@dataclass
class Plateau:
    """Watches one figure: its best value, and for how many epochs it has not got better.

    Attributes:
        higher_is_better: True for accuracies, False for losses.
        min_delta: a smaller gain than this does not count.
        best: best value so far; None before the first.
        wait: epochs since.
    """

    higher_is_better: bool
    min_delta: float = 0.0
    best: float | None = None
    wait: int = 0

    def update(self, value: float) -> bool:
        """Take an epoch's value and return whether it is the best so far."""
        sign = 1 if self.higher_is_better else -1
        if self.best is None or sign * (value - self.best) > self.min_delta:
            self.best, self.wait = value, 0
            return True
        self.wait += 1
        return False

    def state(self) -> dict:
        """Return what `Plateau(**state)` needs to go on."""
        return asdict(self)
