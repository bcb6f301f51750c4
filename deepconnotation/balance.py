"""Deal with classes of unequal size, in the training split only.

    python -m deepconnotation.balance data/faces              # counts and weights
    python -m deepconnotation.balance data/faces --up-to 2000 --synthesise --out data/faces-2000
    python -m deepconnotation.balance data/faces --up-to median --down-to median --out data/even

Weights need no new data set: give them to train as --class-weights.
"""

import argparse

from deepconnotation.console import (
    UserError,
    argument_parser,
    run_command,
    seed_number,
    text_table,
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="folder of a prepared data set")
    add("--up-to", metavar="N", help="fill smaller classes up to N with copies (or: smallest, "
        "median, largest)")  # fmt: skip
    add("--down-to", metavar="N", help="cut larger classes to N")
    add("--synthesise", action="store_true", help="change contrast, colour and sharpness of copies")
    add("--out", metavar="DIR", help="folder of the new data set")
    add("--seed", type=seed_number, default=0, help="of the choice and the changes (default 0)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if bool(args.out) != bool(args.up_to or args.down_to):
        raise UserError("--out goes with --up-to or --down-to")
    if args.synthesise and not args.up_to:
        raise UserError("--synthesise goes with --up-to")
    import pandas as pd

    from deepconnotation.data import balance

    counts = balance.training_counts(args.dataset)
    columns = {"train": counts}
    if args.out:
        up, down = (
            balance.parse_target(text, counts, flag) if text else None
            for text, flag in ((args.up_to, "--up-to"), (args.down_to, "--down-to"))
        )
        columns["new"] = balance.resample(
            args.dataset, args.out, up, down, args.synthesise, args.seed
        )
    else:
        for scheme in balance.SCHEMES[1:]:
            columns[scheme] = balance.class_weights(scheme, counts).round(4)
    print(text_table(pd.DataFrame(columns, index=counts.index).rename_axis(None)))


if __name__ == "__main__":
    run_command(main)
