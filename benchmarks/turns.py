"""What the benchmarks share: sides measured in turn, peers in environments of their own, rows."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("DEEPCONNOTATION_PEERS", ".bench"))  # what `make bench-env` makes


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        step: of the job.
        peer: what a user would pick instead.
        ours: our median, in `unit`.
        theirs: the peer's.
        unit: "pictures/s" or "s".
        goal: the ratio to reach; None where there is none.
        floor: share of what the machine could do at best, 0 to 1; None where not computed.
    """

    step: str
    peer: str
    ours: float
    theirs: float
    unit: str
    goal: float | None = None
    floor: float | None = None

    @property
    def ratio(self) -> float:
        """How many times better than the peer."""
        return self.ours / self.theirs if self.unit == "pictures/s" else self.theirs / self.ours

    def __str__(self) -> str:
        """Return it as a row of a Markdown table."""
        digits = 2 if self.unit == "s" else 0
        goal = "" if self.goal is None else f"{self.goal:g}"
        floor = "" if self.floor is None else f"{self.floor:.0%}"
        return (f"| {self.step} | {self.peer} | {self.ours:.{digits}f} | {self.theirs:.{digits}f} "
                f"| {self.unit} | **{self.ratio:.2f}** | {goal} | {floor} |")  # fmt: skip


HEADER = (
    "| step | peer | ours | peer's | unit | ratio | goal | of the floor |\n"
    "|---|---|---|---|---|---|---|---|"
)


@contextmanager
def workplace() -> Iterator[str]:
    """Make a folder in data/, which git does not see, for as long as a benchmark needs it."""
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data") as folder:
        yield folder


def in_turn(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Return each side's median of `repeats` figures; the sides run one after the other.

    A first round is thrown away: it builds graphs and fills caches.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            figure = side()
            if repeat:
                found[name].append(figure)
    return {name: statistics.median(values) for name, values in found.items()}


class Peer:
    """A program in an environment of its own that measures once a line it is sent.

    Args:
        environment: of `make bench-env`; "keras" is this one, which has it.
        script: in benchmarks/peers.
        *words: its arguments.
    """

    def __init__(self, environment: str, script: str, *words: object):
        python = PEERS / environment / "bin" / "python"
        python = Path(sys.executable) if environment == "keras" else python
        if not python.exists():
            raise SystemExit(f"error: {python} is not there; run: make bench-env")
        self.process = subprocess.Popen(
            [python, HERE / "peers" / script, *map(str, words)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self) -> float:
        """Return the next figure."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.process.args[1]} ended; see above")
        return float(line)

    def close(self) -> None:
        """End the program."""
        self.process.stdin.close()
        self.process.wait()
