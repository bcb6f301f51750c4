"""Make a prepared data set from addresses, an archive or a folder of pictures.

    python -m deepconnotation.prepare EmotionImages/*.csv --dataset fi --size 32 --out data/fi
    python -m deepconnotation.prepare PICTURES --dataset folder --size 64 --out data/mine
    python -m deepconnotation.prepare facial_expressions --dataset facial_expressions \\
        --size 64 --grey --drop contempt --fractions 72/8/20 --out data/faces
    python -m deepconnotation.prepare PEOPLE --size 96 --faces --out data/people

A run that was interrupted goes on when the same command is given again. What was fetched or
unpacked stays in OUT-originals, for another size; delete it when it is needed no more.
"""

import argparse
from pathlib import Path

from deepconnotation.console import (
    UserError,
    argument_parser,
    counting_number,
    going_on,
    run_command,
    seed_number,
    text_table,
    whole_number,
)
from deepconnotation.data.engine import ENGINES
from deepconnotation.data.sources.fi import ORDERS

DATASETS = ("folder", "fi", "affectnet", "facial_expressions", "fer2013", "oasis", "toy")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="+", help="folder or archive of pictures, or CSV of "
        "addresses or files: url,label or file,label with a header, or FI's own")  # fmt: skip
    add("--dataset", choices=DATASETS, default="folder", help="how SOURCE is laid out (folder: a "
        "subfolder a class; fi: the same with FI's eight classes, or its CSV files; toy: drawn "
        "into SOURCE first)")  # fmt: skip
    add("--emotions", metavar="SET", help="label set of a folder or CSV: a known one, or classes "
        "of your own in order, like positive,negative; or affectnet11, 7, 6, 5")  # fmt: skip
    add("--size", type=whole_number(8, 2048), default=64, help="height and width in pixels "
        "(default 64)")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="folder of the prepared data set")
    add("--grey", action="store_true", help="make every picture grey")
    add("--faces", action="store_true", help="cut the largest face out of each picture, and leave "
        "out those without (extra [faces])")  # fmt: skip
    add("--drop", action="append", default=[], metavar="CLASS", help="leave a class out")
    add("--fractions", default="80/10/10", help="train/dev/test, or train/test (default 80/10/10)")
    add("--seed", type=seed_number, default=0, help="of the split (default 0)")
    add("--labels", metavar="FILE", help="take splits and labels from a labels.json instead")
    add("--workers", type=counting_number, help="processes (default: one a core)")
    add("--engine", choices=ENGINES, default="local", help="where pictures are decoded: "
        "here, or on the Ray cluster that RAY_ADDRESS names")  # fmt: skip
    add("--keep-duplicates", action="store_true", help="keep byte-identical copies, in one split")
    add("--allow-missing", action="store_true", help="accept a split without some class")
    add("--min-agree", type=whole_number(0, 5), default=3, metavar="N", help="FI: how many of five "
        "must agree (default 3)")  # fmt: skip
    add("--vote-order", choices=ORDERS, help="FI: what the two "
        "votes columns are (default: what fits the published share)")  # fmt: skip
    add("--margin", type=float, default=0.0, help="AffectNet: around the face's box, as a part of "
        "its sides (default 0)")  # fmt: skip
    add("--threads", type=counting_number, default=32, help="addresses fetched at once "
        "(default 32)")  # fmt: skip
    add("--per-host", type=counting_number, default=8, help="of them from one host (default 8)")
    add("--allow-private-hosts", action="store_true", help="also fetch from this machine and its "
        "network")  # fmt: skip
    return parser.parse_args(arguments)


@going_on()
def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if not 0 <= args.margin <= 2:
        raise UserError(f"--margin {args.margin}: expected 0 to 2")

    from deepconnotation.data import archive, fetch, labels, manifest, prepare
    from deepconnotation.data.sources import Options, read

    originals = Path(f"{args.out}-originals")
    paths = args.source
    if archive.is_archive(paths[0]) and len(paths) == 1:
        paths = [archive.unpack(paths[0], originals / Path(paths[0]).name)]
    options = Options(args.emotions, args.drop, args.vote_order, args.min_agree, args.margin)
    source = read(args.dataset, paths, options)
    if args.labels:
        source = labels.apply(source, args.labels)
    survival = None
    if any(item.url for item in source.items) and not manifest.exists(args.out):
        limits = fetch.Limits(
            threads=args.threads, per_host=args.per_host,
            allow_private_hosts=args.allow_private_hosts,
        )  # fmt: skip
        source, survival = fetch.fetch(source, originals, limits)
    prepare.prepare(
        source, args.out, args.size, args.grey, args.fractions, args.seed, args.workers,
        args.keep_duplicates, args.allow_missing, args.engine, cut_faces=args.faces,
    )  # fmt: skip
    print(prepare.summary(args.out))
    if survival is not None:
        print(f"what became of the addresses:\n{text_table(survival)}")


if __name__ == "__main__":
    run_command(main)
