"""How long --help of every command takes, cold: the median of five starts.

    python benchmarks/start.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    **{m: ["-m", f"deepconnotation.{m}"] for m in ("train", "evaluate", "predict")},
    **{t: [str(ROOT / "data_tools" / t)] for t in ("fetch_and_resize.py", "split.py")},
}


def main() -> None:
    for name, words in COMMANDS.items():
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, *words, "--help"], check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        print(f"{name}: {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
