"""Cross-validation: every picture is a test picture once, of a net that has not learned from it.

    python -m deepconnotation.crossval --folds 5 --data data/mine --run snapshots/mine-cv \\
        --arch efficientnet_lite0 --weights imagenet --epochs 10

For data sets whose test split would be too small to say much. All pictures, whatever split they are
in, are divided into folds of equal size and class shares; no person (the manifest's `group`) and no
near-duplicate crosses. For each fold a net is trained that is tested on it, chosen by the next fold
and learns from the others. All further flags are train's.

RUN/fold-1, RUN/fold-2 and so on are runs like any other, their data sets RUN/data-1, RUN/data-2 and
so on, whose pictures take no room where the disk knows links. RUN/metrics.json, predictions.csv and
report.html tell of all answers together. Stopped with Ctrl-C, the same command goes on. The folds
are the same for every command, so that evaluate compares several cross-validations picture by
picture.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import (
    UserError,
    argument_parser,
    folder_atomic,
    going_on,
    run_command,
    text_table,
    whole_number,
)

if TYPE_CHECKING:
    import pandas as pd

    from deepconnotation.data.manifest import DatasetInfo

SEED = 0  # of the folds
#: what of run.json must be the same for a command to go on with it
SAME = ("arch", "settings", "weights", "teacher", "merge", "folds")


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Return what is asked, train's flags among it, and these flags as words."""
    from deepconnotation import train

    parser = argument_parser(__doc__, prog="python -m deepconnotation.crossval")
    add = parser.add_argument
    add("--folds", type=whole_number(3, 100), default=5, help="how many [5]")
    add("--data", metavar="DIR", required=True, help="prepared data set")
    add("--run", metavar="DIR", required=True, help="folder of the cross-validation")
    own, words = parser.parse_known_args(arguments)
    args = train.parse(words)
    if args.resume:
        raise UserError("--resume: give the same command again, and it goes on")
    if args.multi_label:
        raise UserError("--multi-label: answers of several labels are not put together")
    if "TF_CONFIG" in os.environ:
        raise UserError("TF_CONFIG: a cross-validation runs on one machine")
    args.folds, args.data, args.run = own.folds, own.data, own.run
    return args, words


@going_on()
def main(arguments: list[str] | None = None) -> int:
    args, words = parse(arguments)
    found = begin(args)
    folds = range(1, args.folds + 1)
    data = Path(args.data)
    if not all((found.path / f"data-{fold}").exists() for fold in folds):
        try:
            divide(data, found.path, args.folds)
        except UserError:
            if not any(found.path.glob("fold-*")):
                shutil.rmtree(found.path)  # nothing was trained yet, and the name is free again
            raise
    for fold in folds:
        folder = found.path / f"fold-{fold}"
        if (folder / "metrics.json").exists():
            continue
        print(f"fold {fold} of {args.folds}", flush=True)
        status = _train(words, found.path / f"data-{fold}", folder)
        if status:
            print(f"error: fold {fold} has no figures; give other settings, and another --run",
                  file=sys.stderr)  # fmt: skip
            return status
    from deepconnotation import crossval_page

    crossval_page.write(found.update(state="finished"), data)
    return 0


def begin(args: argparse.Namespace) -> run.Run:
    """Make the folder, or go on with it.

    Its run.json is that of a run without a net: evaluate compares by it.

    Raises:
        UserError: when it holds something else, or the settings do not fit.
    """
    from deepconnotation import train
    from deepconnotation.data import manifest
    from deepconnotation.models.registry import resolve
    from deepconnotation.settings import Settings

    settings = Settings.from_dict(vars(args))
    settings.check()
    arch, data = resolve(args.arch), Path(args.data)
    info, table = manifest.read_info(data), manifest.read(data)
    classes = train.trained_classes(arch, settings, info.classes, args.merge)
    config = {
        "arch": arch,
        "command": shlex.join(["python", "-m", "deepconnotation.crossval", *sys.argv[1:]]),
        "classes": classes, "merge": args.merge, "emotion_set": info.emotion_set,
        "input_shape": [info.height, info.width, 3], "settings": asdict(settings),
        "weights": args.weights, "teacher": args.teacher, "folds": args.folds,
        "data": train.data_config(data, table.assign(split="train"), info, classes),
    }  # fmt: skip
    folder = Path(args.run)
    if not (folder / "run.json").exists():
        return run.create(folder, config)
    found = run.load(folder)
    given = json.loads(json.dumps(config))
    same = all(found.config.get(name) == given[name] for name in SAME)
    if same and found.config["data"]["fingerprint"] == given["data"]["fingerprint"]:
        return found
    if "folds" not in found.config or any(folder.glob("fold-*")):
        raise UserError(f"--run {folder} holds something else; choose another name")
    shutil.rmtree(folder)  # its command was refused before anything was trained
    return run.create(folder, config)


def divide(dataset: Path, folder: Path, folds: int) -> None:
    """Write a data set a fold: it is test, the next one dev, all others are train.

    Args:
        dataset: a prepared data set.
        folder: for data-1, data-2 and so on.
        folds: how many.

    Raises:
        UserError: when it holds pictures that must not leave the training split, or too few.
    """
    from deepconnotation.data import manifest, prepare, split

    table, info = manifest.read(dataset), manifest.read_info(dataset)
    names = [str(fold) for fold in range(1, folds + 1)]
    table = prepare.resplit(dataset, table, dict.fromkeys(names, 1 / folds), SEED)
    counts = split.class_counts(table, info.classes, names)
    print(text_table(counts.rename_axis("fold")))
    if not counts["all"].all():
        raise UserError(f"--folds {folds}: {dataset} has too few pictures, or people, for them")
    for test, dev in zip(names, names[1:] + names[:1], strict=True):
        parts = table["split"].map({test: "test", dev: "dev"}).fillna("train")
        words = f"fold {test} of {folds} is test, fold {dev} dev, at seed {SEED}"
        _link(dataset, folder / f"data-{test}", table.assign(split=parts),
              replace(info, split=words))  # fmt: skip


def _link(dataset: Path, out: Path, table: "pd.DataFrame", info: "DatasetInfo") -> None:
    """Write a data set of the same pictures in other splits."""
    from deepconnotation.data import balance, manifest

    rows = zip(table["split"], table["label"], table["id"], strict=True)
    files = [manifest.file_of(*row) for row in rows]
    shutil.rmtree(out, ignore_errors=True)
    with folder_atomic(out) as partial:
        balance.link(dataset, partial, table["file"], files)
        balance.write_rejected(dataset, partial, [])
        manifest.write(partial, manifest.to_csv(table.assign(file=files)), info)


def _train(words: list[str], data: Path, folder: Path) -> int:
    """Train a fold's net, or go on with it; return train's exit status."""
    from deepconnotation import train
    from deepconnotation.backend import keras

    keras.backend.clear_session()
    if (folder / "run.json").exists():
        return train.main(["--resume", str(folder)])
    return train.main([*words, "--data", str(data), "--run", str(folder)])


if __name__ == "__main__":
    run_command(main)
