"""Look at pictures of a prepared data set, or at those that were not taken.

    python -m deepconnotation.inspect_images data/fi --class awe --split train
    python -m deepconnotation.inspect_images data/fi --index 100:160 --out awe
    python -m deepconnotation.inspect_images data/mine --rejected truncated --originals pictures

Writes OUT.png, a contact sheet, and OUT.html, a page with the same pictures.
"""

import argparse
import io
from pathlib import Path

from deepconnotation.console import (
    UserError,
    argument_parser,
    counting_number,
    run_command,
    write_atomic,
)
from deepconnotation.emotions import plain


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="folder of a prepared data set")
    add("--index", metavar="N", help="places in the manifest, or in rejected.csv, from 0: 3,7 or "
        "20:40")  # fmt: skip
    add("--class", dest="label", type=plain, metavar="CLASS", help="pictures of one class")
    add("--split", choices=("train", "dev", "test"), help="pictures of one split")
    add("--rejected", metavar="REASON", help="pictures that were not taken: a reason, or all")
    add("--originals", metavar="DIR", help="where those are (default: DATASET-originals)")
    add("--limit", type=counting_number, default=100, help="pictures at most (default 100)")
    add("--columns", type=counting_number, default=10, help="pictures a row (default 10)")
    add("--out", default="sheet", metavar="NAME", help="name of both files (default sheet)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.rejected and (args.label or args.split):
        raise UserError("--rejected: what was not taken has no --class or --split")
    from deepconnotation import page
    from deepconnotation.data import sheet

    image, gallery = _files(args.out)
    index = sheet.parse_index(args.index) if args.index else None
    if args.rejected:
        originals = [args.originals or f"{args.dataset.rstrip('/')}-originals"]
        entries = sheet.rejected(args.dataset, args.rejected, originals, index)
    else:
        entries = sheet.taken(args.dataset, args.split, args.label, index)
    shown = entries[: args.limit]
    pictures = [sheet.picture_of(entry) for entry in shown]
    stream = io.BytesIO()
    sheet.sheet(shown, pictures, args.columns).save(stream, "PNG")
    write_atomic(image, stream.getvalue())
    cells = [(p, f"{e.index} {e.words}", e.name) for e, p in zip(shown, pictures, strict=True)]
    title = f"{len(shown)} of {len(entries)} pictures of {args.dataset}"
    write_atomic(gallery, page.page(title, [page.gallery(cells)]))
    print(f"{title}: {image}, {gallery}")


def _files(name: str) -> tuple[Path, Path]:
    """Return the sheet's and the page's path; the name may have the ending of either.

    Raises:
        UserError: when one of them is there without the other, and so is somebody's own.
    """
    stem = name.removesuffix(".png").removesuffix(".html")
    both = Path(f"{stem}.png"), Path(f"{stem}.html")
    there = [path for path in both if path.exists()]
    if len(there) == 1:
        raise UserError(f"--out {name}: {there[0]} is there and not of this command; give another "
                        "name")  # fmt: skip
    return both


if __name__ == "__main__":
    run_command(main)
