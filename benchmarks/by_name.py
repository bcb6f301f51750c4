"""The faces split by name alone: a weaker test than ours, to set figures beside published ones.

    python benchmarks/by_name.py data/faces data/faces-names

Copies a prepared facial_expressions, forgets which of the eight actors each film still shows, and
splits again by the same fractions and seed. Stills of one actor then lie on both sides, and only
near-duplicates among them are kept together.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from deepconnotation.console import run_command
from deepconnotation.data import manifest, prepare, split

FRACTIONS, SEED = "72/8/20", 0


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:3])
    if (target / "manifest.csv").exists():
        return
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".cache"), dirs_exist_ok=True)
    table, info = manifest.read(target), manifest.read_info(target)
    table["group"] = table["group"].where(~table["group"].str.startswith("still_"), "")
    table = prepare.resplit(target, table, split.parse_fractions(FRACTIONS), SEED)
    words = f"{prepare.describe_split(FRACTIONS, SEED)}; film stills by picture, not by actor"
    manifest.move_to(target, table, replace(info, split=words))
    print(prepare.summary(target))


if __name__ == "__main__":
    run_command(main)
