"""Train a recipe with three seeds and print mean and spread of its test figures.

    python benchmarks/seeds.py faces
    python benchmarks/seeds.py fi32 --seeds 0 1 2

Prepares the data set where it is not there yet, and trains one run a seed into snapshots/. Finished
runs are not repeated and interrupted ones go on, so the command can be stopped and given again.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from deepconnotation import run
from deepconnotation.console import run_command
from deepconnotation.metrics import SCALARS

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))
ROOT = Path(__file__).resolve().parents[1]

#: name -> (arguments of fetch_and_resize.py, arguments of train)
RECIPES = {
    "faces": (
        f"{DATA}/facial_expressions --dataset facial_expressions --size 64 --grey --drop contempt "
        "--fractions 72/8/20 --out data/faces",
        "--arch resnet --data data/faces --width 32 --epochs 16 --label-smoothing 0.1 --shift 0.08 "
        "--rotate 10 --zoom 0.1 --monitor val_accuracy",
    ),
    "fi32": (
        f"{DATA}/fi/images --dataset fi --size 32 --out data/fi32",
        "--arch resnet --data data/fi32 --stem 3x3 --width 16 --epochs 16 --monitor val_accuracy",
    ),
    "fi64": (
        f"{DATA}/fi/images --dataset fi --size 64 --out data/fi64",
        "--arch resnet --data data/fi64 --width 32 --epochs 16 --monitor val_accuracy",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    preparation, training = RECIPES[args.recipe]
    python(str(ROOT / "data_tools/fetch_and_resize.py"), *shlex.split(preparation))
    for seed in args.seeds:
        train(Path(f"snapshots/{args.recipe}-s{seed}"), seed, training)
    print(summary(args.recipe, args.seeds))


def train(folder: Path, seed: int, arguments: str) -> None:
    state = run.load(folder).config["state"] if (folder / "run.json").exists() else None
    if state == "finished" and (folder / "metrics.json").exists():
        return
    if state is not None:
        python("-m", "deepconnotation.train", "--resume", str(folder))
    else:
        words = shlex.split(arguments)
        python("-m", "deepconnotation.train", *words, "--run", str(folder), "--seed", str(seed))


def python(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True)


def summary(recipe: str, seeds: list[int]) -> str:
    """Return a Markdown table: a row a seed with its interval, then mean and spread."""
    header = "| run | accuracy | balanced accuracy | macro F1 | training |"
    lines = [header, "|---|---|---|---|---|"]
    values: dict[str, list[float]] = {name: [] for name in SCALARS}
    for seed in seeds:
        folder = Path(f"snapshots/{recipe}-s{seed}")
        figures = json.loads((folder / "metrics.json").read_text("utf-8"))
        cells = []
        for name in SCALARS:
            f = figures[name]
            values[name].append(f["value"])
            cells.append(f"{f['value']:.3f} ({f['low']:.3f}-{f['high']:.3f})")
        minutes = run.load(folder).config["train_seconds"] / 60
        lines.append(f"| seed {seed} | {' | '.join(cells)} | {minutes:.1f} min |")
    spread = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v) if len(v) > 1 else 0:.3f}"
              for v in values.values()]  # fmt: skip
    majority = [f"{figures[name]['majority']:.3f}" for name in SCALARS]
    lines.append(f"| mean ± s.d. | {' | '.join(spread)} | |")
    lines.append(f"| majority | {' | '.join(majority)} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
