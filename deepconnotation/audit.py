"""Look for what makes figures on a data set untrue: copies, leaks, signs, shortcuts, bad labels.

    python -m deepconnotation.audit data/fi
    python -m deepconnotation.audit facial_expressions --dataset facial_expressions --drop contempt
    python -m deepconnotation.audit data/fi --fail-on leakage,placeholders     # status 1 if found

Prints a summary and writes audit.html and audit.json.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from deepconnotation.console import (
    UserError,
    argument_parser,
    need_writable,
    run_command,
    write_atomic,
)

DATASETS = ("folder", "fi", "affectnet", "facial_expressions", "fer2013")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a prepared data set, or a folder of pictures")
    add("--dataset", dest="layout", choices=DATASETS, default="folder", help="how a folder that "
        "is not prepared is laid out (default folder: a subfolder a class)")  # fmt: skip
    add("--emotions", metavar="SET", help="label set of a folder")
    add("--drop", action="append", default=[], metavar="CLASS", help="leave a class out")
    add("--second", metavar="CSV", help="labels of a second annotator: source,label")
    add("--out", metavar="DIR", help="folder of the page (default: DATASET-audit)")
    add("--fail-on", default="", metavar="KINDS", help="leave with status 1 when one of these is "
        "found: leakage,placeholders,duplicates,conflicts,shortcuts,unreadable")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    from deepconnotation.data import audit_page, manifest, measure, prepare
    from deepconnotation.data.audit import CHECKS, agreement, audit, read_second
    from deepconnotation.data.sources import Options, read

    wanted = [w for w in args.fail_on.split(",") if w]
    for word in wanted:
        if word not in CHECKS:
            raise UserError(f"--fail-on {word}: expected some of {','.join(CHECKS)}")
    if manifest.exists(args.dataset):
        if args.emotions or args.drop:
            raise UserError(f"--emotions, --drop: {args.dataset} is prepared and has its classes")
        pictures = measure.pictures_of(args.dataset)
        classes = manifest.read_info(args.dataset).classes
        reasons = prepare.rejection_counts(args.dataset)
    else:
        source = read(args.layout, [args.dataset], Options(args.emotions, args.drop))
        pictures, classes = measure.pictures_in(source), source.emotions.classes
        reasons = Counter(r.reason for r in source.rejections)
    if pictures.empty:
        raise UserError(f"{args.dataset}: no pictures")
    second = read_second(args.second, classes) if args.second else None
    out = Path(args.out or f"{args.dataset.rstrip('/')}-audit")
    need_writable(out)
    table, thumbnails = measure.measure(pictures)
    found = audit(table, thumbnails, classes)
    found.not_taken = dict(reasons)
    if second is not None:
        found.agreement = agreement(table, second, classes)
    command = f"python -m deepconnotation.audit {shlex.join(sys.argv[1:])}"
    write_atomic(out / "audit.json", json.dumps(asdict(found), indent=1) + "\n")
    write_atomic(out / "audit.html", audit_page.write(found, pictures, args.dataset, command))
    print(audit_page.text(found))
    print(f"page: {out / 'audit.html'}")
    failed = [kind for kind in wanted if found.failed()[kind]]
    if failed:
        print(f"found, as --fail-on asks: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
