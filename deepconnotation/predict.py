"""Predict pictures: files, folders, paths on standard input, or addresses.

    python -m deepconnotation.predict snapshots/faces photo.jpg holiday/
    find . -name '*.png' | python -m deepconnotation.predict snapshots/faces - --csv > answers.csv
    python -m deepconnotation.predict snapshots/evoked urls.csv --csv > answers.csv

A CSV file is a list of addresses, in its column `url`; what they lead to stays in urls-originals,
so that the same command goes on after Ctrl-C, and another run need not fetch it again.

One row an input, in order. Runs that learned from faces want pictures cut to the face: --faces cuts
out every face and answers each in a row of its own, the largest first (extra [faces]). Exit status
0 when all were predicted, 3 when some were not, 2 for bad use. A name that starts with a dash is
written ./-name.jpg.
"""

import argparse
import csv
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import UserError, argument_parser, printable, progress, run_command
from deepconnotation.data import files

if TYPE_CHECKING:
    from deepconnotation.fast import Answers

BATCH = 8  # pictures that a thread reads and answers at once; larger is no faster
MANY = 100
AHEAD = 2 * (os.cpu_count() or 1)  # batches begun before the first is given out
SOME_FAILED = 3


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.predict")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("inputs", metavar="IMAGE|DIR|CSV|-", nargs="+", help="pictures, folders, CSV files with a "
        "column url, or - for paths on standard input")  # fmt: skip
    add("--faces", action=argparse.BooleanOptionalAction, help="answer each face that is found "
        "(default: as the run's pictures were prepared)")  # fmt: skip
    add("--allow-private-hosts", action="store_true", help="also fetch from this machine and its "
        "network")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="CSV with a header")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    found = run.load(args.run)
    for stream in (sys.stdout, sys.stdin):
        # A file's name need not be text; it must neither stop the run nor change on its way.
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    args.faces = found.cuts_faces(args.faces)
    write = _writer(args, found)
    inputs, addresses = _fetched(args.inputs, args.allow_private_hosts)
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        advance = None  # few pictures need no bar, and rows that are seen are one
        rows = predict(found, list_inputs(inputs), faces=args.faces)
        for number, row in enumerate(rows, start=1):
            row = _of_address(row, addresses)
            counts[row["status"]] += 1
            write(row)
            if advance:
                advance(1)
            elif number == MANY and not sys.stdout.isatty():
                advance = stack.enter_context(progress("pictures", None, number))
    if not counts:
        raise UserError(f"no picture in {', '.join(args.inputs)}")
    print(", ".join(f"{n} {status}" for status, n in counts.items()), file=sys.stderr)
    return SOME_FAILED if counts["rejected"] else 0


def _fetched(inputs: Iterable[str], private: bool) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Return the inputs with the files that lists of addresses lead to, see `addresses.fetch`."""
    paths, told = [], {}
    for name in inputs:
        if not name.lower().endswith(".csv"):
            paths.append(name)
            continue
        from deepconnotation.data import addresses
        from deepconnotation.data.download import Limits

        fetched, known = addresses.fetch(name, Limits(allow_private_hosts=private))
        paths += fetched
        told |= known
    return paths, told


def _of_address(row: dict, addresses: dict[str, tuple[str, str]]) -> dict:
    """Return a row that names the picture's address, where it has one, and why it did not come."""
    url, reason = addresses.get(row["file"], (row["file"], ""))
    return {"file": url, "status": "rejected", "reason": reason} if reason else {**row, "file": url}


def list_inputs(inputs: Iterable[str]) -> Iterator[Path]:
    """Yield every file that is named, in a named folder (by name), or on standard input.

    Of a system's folder in a named one, like .thumbnails, it yields the folder itself.
    """
    for name in inputs:
        if name == "-":
            yield from (Path(line.rstrip("\n")) for line in sys.stdin if line.strip())
        elif os.path.isdir(name):
            yield from files.below(name, into_clutter=False)
        else:
            yield Path(name)


def predict(
    found: run.Run, paths: Iterable[Path], answer: "Answers | None" = None, faces: bool = False
) -> Iterator[dict]:  # fmt: skip
    """Predict pictures in batches, with no more than a few batches in memory.

    Args:
        found: a run with a model.
        paths: of the pictures; whatever is there is answered with a row.
        answer: of `answering`, for one who asks many times; None makes it.
        faces: cut faces out of the pictures and answer each of them.

    Yields:
        A row a path, in order, or a row a face: "file"; "box" of a face, a list of left, top, right
        and bottom, pixels; "status", which is "ok", "rejected" or "skipped"; then
        what the run tells of "label", "confidence", "probabilities" (a list in the order of the
        classes), "set" (the true class is in nine of ten), "labels" (those above their
        thresholds), "valence" and "arousal"; or "reason".
    """
    answer = answer or answering(found)
    paths, waiting = iter(paths), deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(paths, BATCH)):
            waiting.append(pool.submit(_rows, found, answer, some, faces))
            if len(waiting) > AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _rows(found: run.Run, answer: "Answers", paths: list[Path], faces: bool) -> list[dict]:
    import numpy as np

    rows = [row for path in paths for row in read(path, found.size, faces)]
    good = [row for row in rows if row["status"] == "ok"]
    if not good:
        return rows
    log_p, told = answer(np.stack([row.pop("pixels") for row in good]))
    for row, p, va in zip(good, np.exp(log_p), told, strict=True):
        best = int(p.argmax())
        for name, cut in found.cuts.items():
            pairs = zip(found.classes, p >= np.array(cut), strict=True)
            row[name] = [c for c, there in pairs if there]
        if found.tells_classes:
            row.update(label=found.classes[best], confidence=float(p[best]),
                       probabilities=[float(v) for v in p])  # fmt: skip
        row.update({n: float(v) for n, v in zip(found.axes, va, strict=True)})
    return rows


def answering(found: run.Run) -> "Answers":
    """Return the fastest function that answers as the run does; see `fast.answers`.

    Where the run's model.tflite is missing or no longer fits, and LiteRT is installed, it is made.
    """
    from deepconnotation import fast

    if (answer := fast.answers(found)) is not None:
        return answer
    if fast.installed() and (folder := fast.place(found)) is not None:
        from deepconnotation import litert

        litert.write(found, folder)
        if (answer := fast.answers(found)) is not None:
            print(f"{folder / fast.FILE} is made: answers need no TensorFlow from now on",
                  file=sys.stderr)  # fmt: skip
            return answer
    from deepconnotation.answer import answers_of

    slow = answers_of(found)
    return lambda images: tuple(each.numpy() for each in slow(images))


def read(path: Path, size: tuple[int, int], faces: bool = False) -> list[dict]:
    """Return a row of a picture, or of each face in it, the largest first.

    Each has "file", "status", and "pixels" (uint8, of the size) or "reason"; a face has its "box".

    Raises:
        UserError: when faces are asked for and OpenCV is not installed.
    """
    from deepconnotation.data.decode import Rejected, decode

    row = {"file": str(path)}
    if files.is_clutter(path.name):
        return [{**row, "status": "skipped", "reason": "clutter: a system or partial file"}]
    try:
        data = path.read_bytes()
        if not faces:
            return [{**row, "status": "ok", "pixels": decode(data, size).pixels}]
        from deepconnotation.data.faces import cut

        return [{**row, "status": "ok", "box": list(box), "pixels": pixels}
                for box, pixels in cut(decode(data).image, size)]  # fmt: skip
    except Rejected as rejected:
        return [{**row, "status": "rejected", "reason": str(rejected)}]
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        text = getattr(error, "strerror", None) or str(error)
        return [{**row, "status": "rejected", "reason": f"unreadable: {text}"}]


def _writer(args: argparse.Namespace, found: run.Run) -> Callable[[dict], None]:
    classes = found.told_classes
    if args.json:
        return lambda row: print(json.dumps(_named(row, classes)), flush=True)
    if args.csv:
        from deepconnotation.predictions import spreadsheet_safe

        answer = ["label", "confidence", *(f"p_{c}" for c in classes)] if classes else []
        fields = ["file", *["box"] * args.faces, "status", *answer, *found.cuts, *found.axes,
                  "reason"]  # fmt: skip
        out = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
        out.writeheader()

        def write(row: dict) -> None:
            cells = dict(row)
            p = zip(classes, cells.pop("probabilities", []), strict=False)  # none of what failed
            cells |= {f"p_{name}": value for name, value in p}
            cells = {k: f"{v:.6f}" if isinstance(v, float) else v for k, v in cells.items()}
            cells |= {k: " ".join(map(str, v)) for k, v in cells.items() if isinstance(v, list)}
            for name in {"file", "label", *found.cuts} & cells.keys():
                cells[name] = spreadsheet_safe(cells[name])
            out.writerow(cells)

        return write
    return lambda row: print(_line(row, found.axes))


def _named(row: dict, classes: list[str]) -> dict:
    if "probabilities" not in row:
        return row
    named = dict(zip(classes, row["probabilities"], strict=True))
    return {**row, "probabilities": named}


def label_of(row: dict) -> str:
    """Return in words the label, or the labels, that a row of `predict` tells."""
    return ", ".join(row["labels"]) or "none of them" if "labels" in row else row["label"]


def _line(row: dict, axes: tuple[str, ...]) -> str:
    file = printable(row["file"])
    if row["status"] == "ok":
        label = [f"{label_of(row):14}{row['confidence']:6.3f}"] if "confidence" in row else []
        told = "  ".join([*label, *(f"{name} {row[name]:+.2f}" for name in axes)])
        face = f" {row['box']}" if "box" in row else ""
        return f"{told}  {file}{face}"
    return f"{row['status']:20}  {file}: {row['reason']}"


if __name__ == "__main__":
    run_command(main)
