"""Downloading against img2dataset, and against one address at a time.

    make bench-env
    python benchmarks/download.py --img2dataset .bench/img2dataset/bin/img2dataset

A host on 127.0.0.1 (benchmarks/host.py) serves real faces. First, 5,000 addresses to 64x64 JPEG
files by both tools, in turn, five times: 32 threads, one process a core, whole commands from start
to end; ours also hashes, finds near-duplicates and splits. Then, with 50 ms of latency a request,
500 addresses by `download` and by a plain loop over requests.Session, three times. Prints medians
and ratios (above 1: ours is faster).
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from deepconnotation.backend import device_name
from deepconnotation.console import argument_parser
from deepconnotation.data import download
from deepconnotation.data.sources import facial_expressions

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))
FACES = DATA / "facial_expressions"
SIZE, THREADS = 64, 32
COUNT, REPEATS = 5000, 5
LATENCY, LATE_COUNT, LATE_REPEATS = 0.05, 500, 3


@contextmanager
def host(latency: float = 0.0) -> Iterator[str]:
    command = [sys.executable, "benchmarks/host.py", str(FACES / "images"), str(latency)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{job.stdout.readline().strip()}"
    finally:
        job.kill()


def addresses(origin: str, count: int) -> list[tuple[str, str]]:
    items = facial_expressions.read(FACES, drops=["contempt"]).items[:count]
    return [(f"{origin}/{i}/{item.path.name}", item.label) for i, item in enumerate(items)]


def seconds(what: Callable[[], None]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def run(command: list) -> None:
    subprocess.run([str(c) for c in command], check=True, capture_output=True)


def ours(urls: Path, out: Path) -> None:
    run([sys.executable, "data_tools/fetch_and_resize.py", urls, "--emotions",
         "facial_expressions8", "--size", SIZE, "--threads", THREADS, "--per-host", THREADS,
         "--allow-private-hosts", "--allow-missing", "--out", out])  # fmt: skip


def theirs(program: str, urls: Path, out: Path) -> None:
    run([program, "--url_list", urls, "--input_format", "csv", "--url_col", "url", "--caption_col",
         "label", "--image_size", SIZE, "--resize_mode", "center_crop", "--encode_quality", 95,
         "--output_format", "files", "--output_folder", out, "--processes_count", os.cpu_count(),
         "--thread_count", THREADS, "--number_sample_per_shard", COUNT // os.cpu_count(),
         "--enable_wandb", "False"])  # fmt: skip


def against_img2dataset(
    program: str, folder: Path, repeats: int = REPEATS
) -> dict[str, list[float]]:  # fmt: skip
    """Return the seconds of each run of both tools."""
    times: dict[str, list[float]] = {"img2dataset": [], "ours": []}
    with host() as origin:
        urls = folder / "urls.csv"
        with open(urls, "w", newline="") as file:
            csv.writer(file).writerows([("url", "label"), *addresses(origin, COUNT)])
        for repeat in range(repeats):
            out = folder / f"theirs{repeat}"
            times["img2dataset"].append(seconds(lambda o=out: theirs(program, urls, o)))
            check(out)
            out = folder / f"ours{repeat}"
            times["ours"].append(seconds(lambda o=out: ours(urls, o)))
            check(out)
            for path in folder.glob("*[0-9]*"):
                shutil.rmtree(path, ignore_errors=True)
    return times


def check(out: Path) -> None:
    found = sum(1 for _ in out.rglob("*.jpg"))
    if found < COUNT * 0.99:  # copies are dropped by ours
        sys.exit(f"{out}: only {found} pictures")


def against_a_loop(folder: Path) -> None:
    times: dict[str, list[float]] = {"loop": [], "ours": []}
    with host(LATENCY) as origin:
        urls = [url for url, _ in addresses(origin, LATE_COUNT)]

        def loop() -> None:
            with requests.Session() as session:
                for i, url in enumerate(urls):
                    (folder / f"{i}.jpg").write_bytes(session.get(url, timeout=20).content)

        limits = download.Limits(threads=THREADS, per_host=THREADS, allow_private_hosts=True)
        for repeat in range(LATE_REPEATS):
            times["loop"].append(seconds(loop))
            out = folder / f"late{repeat}"
            times["ours"].append(seconds(lambda o=out: download.download(urls, o, limits)))
    tell(times, LATE_COUNT)


def tell(times: dict[str, list[float]], count: int) -> None:
    for name, values in times.items():
        listed = ", ".join(f"{v:.2f}" for v in values)
        print(f"{name:12} {count / statistics.median(values):7.0f} a second (s: {listed})")
    other = next(name for name in times if name != "ours")
    pairs = [a / b for a, b in zip(times[other], times["ours"], strict=True)]
    ratio = statistics.median(times[other]) / statistics.median(times["ours"])
    listed = ", ".join(f"{p:.2f}" for p in pairs)
    print(f"ratio of the medians {ratio:.2f}, pair by pair {listed}")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--img2dataset", metavar="PROGRAM", help="leave out to skip that part")
    args = parser.parse_args()
    print(device_name(), f"{os.cpu_count()} cores")
    Path("data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="data") as folder:
        if args.img2dataset:
            tell(against_img2dataset(args.img2dataset, Path(folder)), COUNT)
        against_a_loop(Path(folder))


if __name__ == "__main__":
    main()
