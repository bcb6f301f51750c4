"""Split a prepared data set anew.

    python -m deepconnotation.split data/fi --fractions 80/10/10 --seed 0
    python -m deepconnotation.split data/faces --fractions 60/40
    python -m deepconnotation.split data/fi32 --like data/fi128
    python -m deepconnotation.split data/faces --hold-out contributor=user3

Classes keep their shares; no person (the manifest's `group`) and no near-duplicate crosses from one
split to another. Prints the class counts.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from deepconnotation.console import argument_parser, run_command, seed_number, text_table


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="folder of a prepared data set")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--fractions", default="80/10/10", help="train/dev/test, or train/test "
                     "(default 80/10/10)")  # fmt: skip
    how.add_argument("--like", metavar="OTHER", help="prepared data set whose split is taken over")
    how.add_argument("--hold-out", metavar="COLUMN=VALUE", help="test on these pictures, and on "
                     "others of the same people; the rest is train and dev, 90/10")  # fmt: skip
    add("--seed", type=seed_number, default=0, help="of the order of equal groups (default 0)")
    add("--allow-missing", action="store_true", help="accept a split without some class")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    from deepconnotation.data import manifest, prepare, split

    table, info = manifest.read(args.dataset), manifest.read_info(args.dataset)
    if args.like:
        table = split.like(table, manifest.read(args.like), args.like)
        splits, words = None, manifest.read_info(args.like).split
    elif args.hold_out:
        table = prepare.resplit(Path(args.dataset), table, split.TRAIN_AND_DEV, args.seed)
        table = split.hold_out(table, args.hold_out)
        splits = manifest.SPLITS
        words = f"{args.hold_out} held out for test, the rest 90/10 at seed {args.seed}"
    else:
        splits = split.parse_fractions(args.fractions)
        table = prepare.resplit(Path(args.dataset), table, splits, args.seed)
        words = prepare.describe_split(args.fractions, args.seed)
    counts = split.class_counts(table, info.classes, splits)
    print(text_table(counts))
    if not args.allow_missing:
        split.check_classes(counts)
    manifest.move_to(args.dataset, table, replace(info, split=words))


if __name__ == "__main__":
    run_command(main)
