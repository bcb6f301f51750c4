"""What the benchmarks share: sides measured in turn, peers in environments of their own, rows."""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deepconnotation.console import argument_parser
from deepconnotation.data.sources import Source
from deepconnotation.data.sources import folder as class_folders

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


def tell(rows: Iterable[Row]) -> None:
    """Print a table, every row as soon as it is measured."""
    print(HEADER)
    for row in rows:
        print(row, flush=True)


def parse(doc: str | None, pictures: int) -> argparse.Namespace:
    """Read the arguments of a benchmark on some pictures of a folder."""
    parser = argument_parser(doc)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--pictures", type=int, default=pictures)
    return parser.parse_args()


def some_of(folder: Path, pictures: int) -> Source:
    """Return so many pictures of a folder with a subfolder a class, always the same at random."""
    found = class_folders.read(folder)
    keep = np.random.default_rng(0).permutation(len(found.items))[:pictures]
    return replace(found, items=[found.items[i] for i in sorted(keep)])


@contextlib.contextmanager
def workplace() -> Iterator[str]:
    """Make a folder in data/, which git does not see, for as long as a benchmark needs it."""
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data") as folder:
        yield folder


def in_turn(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Return each side's median of what `each_in_turn` tells."""
    found = each_in_turn(sides, repeats)
    return {name: statistics.median(values) for name, values in found.items()}


def each_in_turn(
    sides: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, list[float]]:  # fmt: skip
    """Return `repeats` figures of each side; the sides run one after the other.

    A first round is thrown away: it builds graphs and fills caches.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            figure = side()
            if repeat:
                found[name].append(figure)
    return found


def peers_python(environment: str) -> Path:
    """Return the Python of an environment of `make bench-env`."""
    python = PEERS / environment / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"error: {python} is not there; run: make bench-env")
    return python


def memory(pid: int, file: str, figure: str) -> float:
    """Return what a file of /proc/PID tells of a process's memory, MiB; 0 where it has ended."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
        return int(next(li for li in lines if li.startswith(f"{figure}:")).split()[1]) / 1024
    return 0.0


class Peer:
    """A program in an environment of its own that measures once a line it is sent.

    Args:
        environment: of `make bench-env`; "keras" is this one, which has it.
        script: in benchmarks/peers.
        *words: its arguments.
    """

    def __init__(self, environment: str, script: str, *words: object):
        python = sys.executable if environment == "keras" else peers_python(environment)
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
