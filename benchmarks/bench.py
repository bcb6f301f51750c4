"""Every step of the job against what a user would pick instead, in one table.

    make bench-env bench        (20 to 30 minutes on two cores)

Both sides of a row run in turn in one go; figures are medians. Needs the real pictures at
DEEPCONNOTATION_DATA and the peers' environments in .bench. Writes benchmarks/bench.md. DeepFace is
not in the table: it downloads its weights when it is first asked.
"""

import os
import statistics
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import download
import embed
import epoch
import predict
import step
from floor import copy_rate, matrix_rate
from turns import HEADER, PEERS, Row, some_of, workplace

from deepconnotation import prepare
from deepconnotation.backend import device_name
from deepconnotation.console import argument_parser, run_command, write_atomic

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))
OUT = Path("benchmarks/bench.md")


def downloading() -> Iterator[Row]:
    program = str(PEERS / "img2dataset" / "bin" / "img2dataset")
    with workplace() as folder:
        times = download.against_img2dataset(program, Path(folder), 3)
    rates = {name: download.COUNT / statistics.median(values) for name, values in times.items()}
    yield Row(f"preparation of {download.COUNT:,} addresses", "img2dataset", rates["ours"],
              rates["img2dataset"], "pictures/s", 1.0)  # fmt: skip


def predicting() -> Iterator[Row]:
    files = [item.path for item in some_of(DATA / "fi" / "images", 10_000).items]
    with workplace() as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        prepare.main([f"{folder}/drawn", "--dataset", "toy", "--size", "96", "--out", str(data)])
        embed.random_run("efficientnet_lite0", data, run)
        yield from predict.measure(str(run), files)


def machine() -> str:
    """Return what the figures were measured on."""
    rates = f"{matrix_rate('float32') / 1e9:.0f} and {matrix_rate('bfloat16') / 1e9:.0f} GFLOP/s"
    names = ("tensorflow-cpu", "keras", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (f"{date.today()}, {device_name()}; matrix products in float32 and bfloat16 {rates}, "
            f"copying {copy_rate() / 1e9:.0f} GB/s; {versions}; peers: benchmarks/peers/*.txt"
            )  # fmt: skip


def main() -> None:
    argument_parser(__doc__).parse_args()
    lines = [f"Measured by `make bench`, {machine()}.", "", *HEADER.split("\n")]
    print("\n".join(lines), flush=True)
    pictures = DATA / "fi" / "images"
    for rows in (step.measure(), epoch.measure(pictures, 3000), embed.measure(pictures, 1536),
                 predicting(), downloading()):  # fmt: skip
        for row in rows:
            lines.append(str(row))
            print(row, flush=True)
    write_atomic(OUT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_command(main)
