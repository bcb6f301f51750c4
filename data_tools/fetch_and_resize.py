#!/usr/bin/env python3
"""Make a prepared data set from a folder of pictures.

    python data_tools/fetch_and_resize.py PICTURES --dataset folder --size 64 --out data/mine
    python data_tools/fetch_and_resize.py facial_expressions --dataset facial_expressions \\
        --size 64 --grey --drop contempt --fractions 72/8/20 --out data/faces

A run that was interrupted goes on when the same command is given again.
"""

import argparse
import sys
from pathlib import Path

# A clone works without installing the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepconnotation.console import UserError, run_command  # noqa: E402

DATASETS = ("folder", "fi", "facial_expressions", "toy")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder of pictures")
    add("--dataset", choices=DATASETS, default="folder", help="how SOURCE is laid out (folder: a "
        "subfolder a class; fi: the same with FI's eight classes; toy: drawn into SOURCE "
        "first)")  # fmt: skip
    add("--emotions", metavar="SET", help="label set of a folder, when its names leave it open")
    add("--size", type=int, default=64, help="height and width in pixels (default 64)")
    add("--out", required=True, metavar="DIR", help="folder of the prepared data set")
    add("--grey", action="store_true", help="make every picture grey")
    add("--drop", action="append", default=[], metavar="CLASS", help="leave a class out")
    add("--fractions", default="80/10/10", help="train/dev/test, or train/test (default 80/10/10)")
    add("--seed", type=int, default=0, help="of the split (default 0)")
    add("--workers", type=int, help="processes (default: one a core)")
    add("--keep-duplicates", action="store_true", help="keep byte-identical copies, in one split")
    add("--allow-missing", action="store_true", help="accept a split without some class")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    if not 8 <= args.size <= 2048:
        raise UserError(f"--size {args.size}: expected 8 to 2048 pixels")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: expected 1 or more")

    from deepconnotation.data import prepare
    from deepconnotation.data.sources import read

    source = read(args.dataset, args.source, args.emotions, args.drop)
    prepare.prepare(
        source, args.out, args.size, args.grey, args.fractions, args.seed, args.workers,
        args.keep_duplicates, args.allow_missing,
    )  # fmt: skip
    print(prepare.summary(args.out))


if __name__ == "__main__":
    run_command(main)
