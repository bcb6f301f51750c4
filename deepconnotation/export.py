"""Export a run for other programs, with its class names inside and an example of use beside it.

    python -m deepconnotation.export snapshots/faces --to onnx
    python -m deepconnotation.export snapshots/faces --to savedmodel litert int8 keras
    python -m deepconnotation.export snapshots/faces --to small --out snapshots/faces-small

What is written goes to RUN/export, and answers as `predict` does, with mirror image and
temperature. `small` is a run folder whose weights keep 7 binary digits of their fraction. Where the
run's data set is there, each form is asked about 100 of its pictures beside the run itself, and
what differs is printed.
"""

import argparse
import errno
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import export_examples, run
from deepconnotation.console import (
    UserError,
    argument_parser,
    one_line,
    run_command,
    write_atomic,
)

if TYPE_CHECKING:
    import numpy as np

FORMS = ("keras", "savedmodel", "onnx", "litert", "int8", "small")
PARITY = 100  # pictures
INFO = "deepconnotation.json"  # inside the files, or beside the SavedModel

Probabilities = Callable[["np.ndarray"], "np.ndarray"]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.export")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("--to", nargs="+", choices=FORMS, required=True, metavar="FORM", help=", ".join(FORMS))
    add("--out", metavar="DIR", help="folder to write to [RUN/export]")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    found = run.load(args.run)
    if "small" in args.to and (len(args.to) > 1 or not args.out):
        raise UserError("--to small makes a run folder of its own: give it alone, and --out")
    folder = Path(args.out or found.path / "export")
    for form in args.to:
        path, answer = export(found, form, folder)
        size = sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]))
        print(f"{form}: {path}, {size / 1e6:.1f} MB{parity(found, answer)}")


def export(found: run.Run, form: str, folder: Path) -> tuple[Path, Probabilities]:
    """Write a run in one of `FORMS`, with an example of its use.

    Returns:
        What was written; and a function that asks it, from uint8 (n, H, W, 3) to float32
        (n, classes), probabilities.

    Raises:
        UserError: when a package that the form needs is not installed, the model cannot be
            converted, or `folder` is a run's.
    """
    from deepconnotation import export_forms

    if form != "small":  # the others are of probabilities first
        found.need_classes()
    found.need_net()
    run.spare(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path, answer = export_forms.FORMS[form](found, folder, info(found))
    except (UserError, OSError):
        raise
    except Exception as error:  # the converters raise many kinds, with pages of text
        if (full := os.strerror(errno.ENOSPC)) in str(error):
            raise OSError(errno.ENOSPC, full, str(folder)) from None
        raise UserError(f"--to {form}: {found.path} cannot be converted "
                        f"({one_line(error)[:160]}); choose another form") from None  # fmt: skip
    if example := export_examples.EXAMPLES.get(form):
        write_atomic(folder / f"example_{form}.py", example)
    return path, answer


def info(found: run.Run) -> str:
    """Return what goes into every export, as JSON."""
    from deepconnotation.card import of_faces

    config = found.config
    face = ", cut to the face" if of_faces(config) else ""
    return json.dumps({
        "classes": found.classes, "axes": found.axes,
        "height": found.size[0], "width": found.size[1],
        "grey": config["data"]["grey"],
        "input": f"RGB, 0 to 255, upright{face}, resized by Lanczos whatever the aspect ratio",
        "data": config["data"]["name"], "licence": config["data"]["licence"],
        "drawn": config["data"]["drawn"], "run": str(found.path), "git": config.get("git"),
        "note": "The likeliest label of the data set's annotators; not what a person feels.",
    }, indent=1) + "\n"  # fmt: skip


def put_inside(path: Path, text: str) -> None:
    """Append the info to a file; LiteRT, Keras and zip tools all find their own part of it."""
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(INFO, text)


def parity(found: run.Run, answer: Probabilities) -> str:
    """Return in words how an export differs from the run on its own pictures; "" without them, or
    without classes."""
    import numpy as np

    from deepconnotation.data import manifest, pipeline
    from deepconnotation.evaluate import predict_split

    data = found.config["data"]
    if not (manifest.exists(data["path"]) and found.tells_classes):
        return ""
    split = next(s for s in ("test", "dev", "train") if s in data["counts"])
    part = pipeline.load(data["path"], split, found.classes)
    part = pipeline.Split(part.table[:PARITY], np.asarray(part.images[:PARITY]),
                          part.labels[:PARITY])  # fmt: skip
    expected, got = predict_split(found, part)[0], answer(part.images)
    same = int((expected.argmax(axis=1) == got.argmax(axis=1)).sum())
    return (f"; the same answer on {same} of {len(expected)} pictures, probabilities within "
            f"{np.abs(expected - got).max():.1g}")  # fmt: skip


if __name__ == "__main__":
    run_command(main)
