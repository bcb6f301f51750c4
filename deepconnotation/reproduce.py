"""Run the published rows of the original projects, as published and honestly, beside their figures.

    python -m deepconnotation.reproduce                                  (what there is)
    python -m deepconnotation.reproduce keras-cnn --sources data/sources
    python -m deepconnotation.reproduce --rehearse                       (all, on drawn pictures)

Each row is run in two forms: as published, with the original's mistakes, and honest, without them.
Data sets go to data/reproduce, runs to snapshots/reproduce, and the table of all that was run to
snapshots/reproduce/index.html and table.md. A finished form is not repeated, and an interrupted one
goes on. A rehearsal shows on drawn pictures that every row runs; its figures mean nothing.
"""

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import UserError, argument_parser, going_on, run_command
from deepconnotation.rows import ROWS, SHOW_AND_TELL, SOURCES, Data, Row

if TYPE_CHECKING:
    from deepconnotation.data.sources import Source

FORMS = ("published", "honest")
DRAWN_A_CLASS, DRAWN_SIZE = 20, 64  # of a rehearsal: pictures, and their largest side
REHEARSED = "--epochs 1 --batch 16"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.reproduce")
    add = parser.add_argument
    add("rows", metavar="ROW", nargs="*", help="names of rows; without them, those that there are "
        "are listed")  # fmt: skip
    add("--sources", metavar="DIR", default="data/sources", help="folder of the data sets as they "
        "came [data/sources]")  # fmt: skip
    add("--form", choices=FORMS, help="run this form only")
    add("--rehearse", action="store_true", help="on a few drawn pictures; without names, all rows")
    return parser.parse_args(arguments)


@going_on()
def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    known = {row.name: row for row in ROWS}
    for name in args.rows:
        if name not in known:
            raise UserError(f"no row {name!r}; there are {', '.join(known)}")
    sources = Path(args.sources)
    if not args.rows and not args.rehearse:
        print(listing(sources))
        return
    chosen = [known[name] for name in args.rows] or list(ROWS)
    place = "rehearsal" if args.rehearse else "reproduce"
    top = Path("snapshots") / place
    for row in chosen:
        for form in [args.form] if args.form else FORMS:
            reason = why_not(row, form, None if args.rehearse else sources)
            if reason:
                print(f"{row.name}, {form}: not run, {reason}")
                continue
            print(f"{row.name}, {form}:", flush=True)
            _run(row, form, top / f"{row.name}-{form}", Path("data") / place,
                 None if args.rehearse else sources)  # fmt: skip
    from deepconnotation import reproduce_page

    print(f"table: {reproduce_page.write(top, args.rehearse)}")


def listing(sources: Path) -> str:
    """Return a line a row: name, published figure, net, and what is missing to run it."""
    lines = []
    for row in ROWS:
        missing = [why_not(row, form, sources) for form in FORMS]
        state = "; ".join(dict.fromkeys(
            f"{form}: {reason}" if reason else f"{form}: can be run"
            for form, reason in zip(FORMS, missing, strict=True)
        ))  # fmt: skip
        if missing[0] == missing[1]:
            state = missing[0] or "can be run"
        lines.append(f"{row.name:22}{row.figure:9}{row.project}: {row.what}, on {row.measured}. "
                     f"{state}")  # fmt: skip
    return "\n".join(lines)


def why_not(row: Row, form: str, sources: Path | None) -> str:
    """Return why a form of a row cannot be run; "" where it can.

    Args:
        row: the row.
        form: one of `FORMS`.
        sources: folder of the data sets as they came; None for a rehearsal.
    """
    data = row.faithful if form == "published" else row.honest
    if isinstance(data, str):
        return data
    if sources is None:
        return ""
    place, _, how = SOURCES[data.source]
    if not (sources / place).exists():
        return f"{sources / place} is not there; get {how}"
    if row.name == SHOW_AND_TELL.removesuffix(".pb") and not (sources / SHOW_AND_TELL).exists():
        return (f"{sources / SHOW_AND_TELL} is not there: the project's frozen graph (2M "
                "iterations of im2txt on MSCOCO) was never published")  # fmt: skip
    return ""


def _run(row: Row, form: str, folder: Path, data_root: Path, sources: Path | None) -> None:
    """Make the data set and train, or embed, unless it was done before."""
    if any((folder / name).exists() for name in ("metrics.json", "mlp-metrics.json")):
        print(f"done before, see {folder}")
        return
    if (folder / "run.json").exists() and run.load(folder).config["state"] == "diverged":
        print(f"diverged before, see {folder}")
        return
    data = row.faithful if form == "published" else row.honest
    if sources is None:
        data = replace(data, size=min(data.size, DRAWN_SIZE))
    dataset = make(data, data_root, sources)
    words = shlex.split(f"{row.command} {row.mistakes if form == 'published' else ''}")
    if words[0] == "embed":
        _embed(words[1], dataset, folder, sources)
    else:
        _train(words, dataset, folder, sources is None)


def make(data: Data, root: Path, sources: Path | None) -> Path:
    """Make a row's data set where it is not there yet, and return its folder.

    Args:
        data: how.
        root: folder of all of them.
        sources: of the pictures; None draws some.
    """
    from deepconnotation.data import manifest, prepare, published

    base = root / replace(data, then=()).name
    if not manifest.exists(base):
        # Drawn pictures are few: a rare class may be missing from a split.
        prepare.prepare(
            _source(data, root, sources), base, data.size, data.grey, data.fractions,
            allow_missing=data.as_published or sources is None, as_published=data.as_published,
        )  # fmt: skip
    done: tuple[str, ...] = ()
    for step in data.then:
        done = (*done, step)
        before, base = base, root / replace(data, then=done).name
        name, _, number = step.partition(":")
        getattr(published, name)(before, base, *([int(number)] if number else []))
    return base


def _source(data: Data, root: Path, sources: Path | None) -> "Source":
    from deepconnotation.data.sources import Options, read, toy

    place, layout, _ = SOURCES[data.source]
    if sources is None:
        return toy.read(root / "pictures", per_class=DRAWN_A_CLASS)
    return read(layout, [str(sources / place)], Options(data.emotions or None, list(data.drop)))


def _train(words: list[str], dataset: Path, folder: Path, rehearse: bool) -> None:
    from deepconnotation import train
    from deepconnotation.backend import keras

    keras.backend.clear_session()
    if (folder / "run.json").exists():
        train.main(["--resume", str(folder)])
    else:
        if rehearse:
            words = [*_without(words), *shlex.split(REHEARSED)]
        train.main([*words, "--data", str(dataset), "--run", str(folder)])


def _without(words: Sequence[str]) -> list[str]:
    """Return a command without what a rehearsal cannot have: downloads, and a weight a class of
    another data set."""
    kept, words = [], list(words)
    while words:
        word = words.pop(0)
        value = words[0] if words else ""
        if (word, value) == ("--weights", "imagenet") or (word == "--class-weights" and "," in value
                                                          ):  # fmt: skip
            words.pop(0)
        else:
            kept.append(word)
    return kept


def _embed(backbone: str, dataset: Path, folder: Path, sources: Path | None) -> None:
    from deepconnotation import embed

    words = [backbone, "--data", str(dataset), "--out", str(folder)]
    if backbone == "show_and_tell" and sources is None:
        words[0] = "efficientnet_lite0"  # the graph is nobody's to have
    elif backbone == "show_and_tell":
        words += ["--weights", str(sources / SHOW_AND_TELL)]
    embed.main(words)


def result(folder: Path) -> dict | None:
    """Return the figures of a form that was run.

    Returns:
        What metrics.json holds (mlp-metrics.json of Show-and-Tell's classifier), with "diverged"
        where the loss ceased to be a number; None where it was not run.
    """
    if (folder / "run.json").exists():
        config = run.load(folder).config
        if config["state"] == "diverged":
            return {"diverged": config["diverged"]}
    names = ("mlp-metrics.json",) if folder.name.startswith("show-and-tell") else ()
    for name in (*names, "metrics.json"):
        if (folder / name).exists():
            return json.loads((folder / name).read_text("utf-8"))
    return None


if __name__ == "__main__":
    run_command(main)
