"""Train a model, evaluate it once on the test split, and write a report.

    python -m deepconnotation.train --arch resnet                      (on the embedded drawn set)
    python -m deepconnotation.train --arch resnet --data data/faces --run snapshots/faces
    python -m deepconnotation.train --resume snapshots/faces
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import emotions
from deepconnotation.console import (
    UserError,
    alone_in,
    argument_parser,
    file_atomic,
    reading,
    run_command,
    write_atomic,
)
from deepconnotation.models.registry import (
    ARCHITECTURES,
    build,
    check_imagenet,
    learned_from,
    load_imagenet,
    options,
    resolve,
)
from deepconnotation.presets import PRESETS
from deepconnotation.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from deepconnotation.data.manifest import DatasetInfo
    from deepconnotation.distributed import Team
    from deepconnotation.fit import Trainer
    from deepconnotation.run import Run

TOY_DATA = Path("data/toy")
TOY_SIZE = 32
DIVERGED = 1
IMAGENET = "imagenet"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.train")
    add = parser.add_argument
    add("--preset", choices=PRESETS, help="settings of an original project; other flags change "
        "them")  # fmt: skip
    add("--arch", default="resnet", help=f"resnet or one of {', '.join(ARCHITECTURES)}")
    add("--data", metavar="DIR", help="prepared data set (default: the embedded drawn set)")
    add("--run", metavar="DIR", help="folder of the run (default snapshots/ARCH-TIME)")
    add("--resume", metavar="RUN", help="go on with an interrupted run; its settings stay")
    add("--weights", metavar="RUN|imagenet|FILE", default="none", help="start from the weights of "
        "another run, or from ImageNet's, or from a file of them [none]")  # fmt: skip
    add("--teacher", metavar="DIR", help="output of embed, whose linear probe's answers on the "
        "training pictures are learned beside the labels (Hinton et al. 2015)")  # fmt: skip
    add("--merge", metavar="A+B", action="append", default=[], help="train on classes as if they "
        "were one, like anger+fear; may be repeated")  # fmt: skip
    add("--plot", action="store_true", help="write the architecture into the run folder: a figure, "
        "model.png, and a line a layer, model.txt")  # fmt: skip
    add("--tensorboard", action="store_true", help="write TensorBoard logs into the run folder")
    group = parser.add_argument_group("settings (default in brackets)")
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        if f.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=f.default,
                               help=f.metadata["help"])  # fmt: skip
        else:
            default = "" if f.default in (None, "", ()) else f" [{f.default}]"
            group.add_argument(flag, type=f.metadata["kind"], default=f.default,
                               metavar=f.metadata["metavar"], choices=f.metadata["choices"],
                               help=f.metadata["help"] + default)  # fmt: skip
    args = parser.parse_args(arguments)
    if args.preset:
        given = sys.argv[1:] if arguments is None else arguments
        args = parser.parse_args([*shlex.split(PRESETS[args.preset]), *given])
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    settings = Settings.from_dict(vars(args))
    settings.check()
    arch = resolve(args.arch)  # before anything heavy is imported

    from deepconnotation import distributed

    team = distributed.team()
    if args.resume:
        return resume(args.resume, args.tensorboard, args.plot, team)
    data = Path(args.data) if args.data else drawn_set()
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(args.run) if args.run else Path("snapshots") / f"{arch}-{stamp}"
    if team.workers > 1:
        if not args.run:
            raise UserError("--run: several machines need a name for the run, the same on each")
        if (folder / "run.json").exists():  # a worker was lost, and all are started again
            return resume(str(folder), args.tensorboard, args.plot, team)
    return start(
        arch, data, folder, settings, args.weights, args.teacher, args.merge, args.tensorboard,
        args.plot, team, arguments,
    )  # fmt: skip


def drawn_set() -> Path:
    """Make the embedded drawn data set where it is not there yet, and return its folder."""
    from deepconnotation.data import prepare
    from deepconnotation.data.sources import toy

    print("No --data: training on the embedded drawn set. Its pictures are drawn by the package; "
          "no figure on them is an emotion result.")  # fmt: skip
    prepare.prepare(toy.read(TOY_DATA.parent / "toy-pictures"), TOY_DATA, TOY_SIZE)
    return TOY_DATA


def start(
    arch: str, data: Path, folder: Path, settings: Settings, weights: str = "none",
    teacher: str | None = None, merges: Sequence[str] = (), tensorboard: bool = False,
    plot: bool = False, team: "Team | None" = None, words: Sequence[str] | None = None,
) -> int:  # fmt: skip
    """Train a new run, on a team of devices or the usual one; return the exit status."""
    from deepconnotation import backend, distributed, run

    team = team or distributed.team()
    if team.leads:
        new_run(arch, data, folder, settings, weights, teacher, merges, words)
    team.meet()
    found = run.load(folder)
    backend.set_precision(found.config["precision"])
    try:
        trainer = make_trainer(found, settings, team=team)
    except UserError:
        if team.leads:
            shutil.rmtree(folder)  # nothing was trained yet, and the name is free again
        raise
    return team.together(lambda: _train(trainer, tensorboard, plot))


def new_run(
    arch: str, data: Path, folder: Path, settings: Settings, weights: str = "none",
    teacher: str | None = None, merges: Sequence[str] = (), words: Sequence[str] | None = None,
) -> "Run":  # fmt: skip
    """Check what is to be trained and make its run folder.

    Args:
        arch: of the registry.
        data: a prepared data set.
        folder: of the run.
        settings: of the training.
        weights: see `train --weights`.
        teacher: see `train --teacher`.
        merges: classes to be taken for one.
        words: train's arguments that say all that; None takes the process's own.

    Raises:
        UserError: when something does not fit; then there is no folder.
    """
    from deepconnotation import backend, run, seen
    from deepconnotation.data import manifest

    info = manifest.read_info(data)
    classes = trained_classes(arch, settings, info.classes, merges)
    start, start_seen = None, seen.NOTHING
    if weights != "none":
        start, start_seen = _start_weights(arch, weights, data)
    tutor, tutor_seen = _start_teacher(teacher, data) if teacher else (None, seen.NOTHING)
    config = {
        "arch": arch,
        "command": shlex.join(["python", "-m", "deepconnotation.train",
                               *(sys.argv[1:] if words is None else words)]),
        "classes": classes,
        "merge": list(merges),
        "emotion_set": info.emotion_set,
        "input_shape": [info.height, info.width, 3],
        "settings": asdict(settings),
        "weights": start,
        "folded": settings.head_epochs > 0 or bool(start and start["folded"]),
        "teacher": tutor,
        "seed": settings.seed,
        "monitor": settings.monitor,
        "precision": backend.set_precision(settings.precision),
        "device": backend.device_name(),
        "data": data_config(data, manifest.read(data), info, classes),
    }  # fmt: skip
    found = run.create(folder, config)
    seen.write(found.path, seen.learned(data), start_seen, tutor_seen)
    return found


def trained_classes(
    arch: str, settings: Settings, classes: Sequence[str], merges: Sequence[str]
) -> list[str]:
    """Return what the classes of a data set are merged to.

    Raises:
        UserError: when they, or the architecture, do not fit the settings.
    """
    options(arch, settings)
    merged = emotions.merged(classes, merges)
    if settings.polarity or settings.wheel:
        from deepconnotation import losses

        if settings.polarity:
            losses.polarities(merged)
        if settings.wheel:
            losses.wheel_distances(merged)
    return merged


def data_config(
    data: Path, table: "pd.DataFrame", info: "DatasetInfo", classes: list[str]
) -> dict:  # fmt: skip
    """Return what run.json says of a data set.

    Args:
        data: its folder.
        table: its manifest, whose pictures of each class are counted split by split.
        info: what it says of itself.
        classes: of the run, perhaps merged.
    """
    from deepconnotation.data import manifest

    return {
        "path": str(data), "name": info.name, "drawn": info.drawn, "grey": info.grey,
        "faces": info.faces, "licence": info.licence, "split": info.split,
        "fingerprint": manifest.fingerprint(data), "learned_from": info.learned_from,
        "counts": _counts(table, classes),
    }  # fmt: skip


def _counts(table: "pd.DataFrame", classes: list[str]) -> dict[str, dict[str, int]]:
    """Return the pictures of each class in each split."""
    numbers = emotions.numbered(table["label"], classes)
    sizes = table.groupby(["split", numbers]).size()
    return {split: {name: int(sizes.get((split, i), 0)) for i, name in enumerate(classes)}
            for split in sizes.index.levels[0]}  # fmt: skip


def _start_weights(arch: str, folder: str, data: Path) -> "tuple[dict, np.ndarray]":
    """Return what run.json says of the run or file whose weights are taken, and what it has seen.

    "folded": whether batch normalisation is a part of its convolutions.

    Raises:
        UserError: when there is no such run or file, or the run has seen this data set's dev or
            test pictures.
    """
    from deepconnotation import run, seen

    if folder == IMAGENET or Path(folder).is_file():
        check_imagenet(arch)
        digest = None if folder == IMAGENET else run.file_sha256(Path(folder))
        sources = learned_from(arch)
        said = {"run": folder, "data": sources[0], "fingerprint": digest, "folded": False,
                "learned_from": sources}  # fmt: skip
        return said, seen.NOTHING
    source = run.load(folder)
    source.need_net()
    known = seen.of(source)
    seen.refuse(f"--weights {folder}", known, data)
    theirs = source.config["data"]
    said = {"run": folder, "data": theirs["name"], "fingerprint": theirs["fingerprint"],
            "folded": source.config.get("folded", False),
            "learned_from": seen.data_sets(source.config)}  # fmt: skip
    return said, known


def _start_teacher(folder: str, data: Path) -> "tuple[dict, np.ndarray]":
    """Return what run.json says of the teacher, and what its backbone has seen.

    Raises:
        UserError: when it was not fitted on this data set's training pictures, and on them alone,
            or its backbone has seen dev or test pictures.
    """
    from deepconnotation import embeddings, seen
    from deepconnotation.data import manifest

    ids, _, config = embeddings.load(folder)
    theirs, table = set(ids.loc[ids["split"] == "train", "id"]), manifest.read(data)
    ours = set(table.loc[table["split"] == "train", "id"])
    if theirs != ours:
        raise UserError(f"--teacher {folder} was fitted on other pictures than {data} trains on "
                        f"({len(theirs - ours)} are not ours, {len(ours - theirs)} are missing); "
                        "embed a data set of the same split")  # fmt: skip
    known = seen.read(Path(folder))
    seen.refuse(f"the backbone of --teacher {folder}", known, data)
    said = {"folder": folder, "backbone": config["backbone"], "data": config["data"],
            "learned_from": config.get("learned_from", [])}  # fmt: skip
    return said, known


def resume(
    folder: str, tensorboard: bool = False, plot: bool = False, team: "Team | None" = None
) -> int:  # fmt: skip
    """Go on with a run as if it had never stopped; return the exit status."""
    from deepconnotation import backend, distributed, run
    from deepconnotation.data import manifest

    found = run.load(folder)
    if "folds" in found.config:
        raise UserError(f"{folder} is a cross-validation; it goes on with its own command: "
                        f"{found.config['command']}")  # fmt: skip
    if found.config["state"] == "finished" and (found.path / "metrics.json").exists():
        raise UserError(f"{folder} is finished; see {found.path / 'report.html'}")
    if found.config["state"] == "diverged":
        raise UserError(f"{folder} diverged ({found.config['diverged']}); start a new run with a "
                        "lower --rate or a smaller --clip")  # fmt: skip
    data = found.config["data"]
    if manifest.fingerprint(data["path"]) != data["fingerprint"]:
        raise UserError(f"{data['path']} has changed since {folder} was started; train anew")
    settings = Settings.from_dict(found.config["settings"])
    backend.set_precision(found.config["precision"])
    team = team or distributed.team()
    team.meet()  # all have read run.json
    trainer = make_trainer(found, settings, team=team)
    return team.together(lambda: _train(trainer, tensorboard, plot))


def make_trainer(
    found: "Run", settings: Settings, say: Callable[[str], None] = print,
    team: "Team | None" = None,
) -> "Trainer":  # fmt: skip
    """Return what trains a run, at its beginning or where it was interrupted.

    Args:
        found: of `new_run`, or interrupted.
        settings: of the run.
        say: takes a line for the user.
        team: the devices that train together; None is the usual one.
    """
    from deepconnotation.backend import idle_gpu, keras, tf
    from deepconnotation.data import pipeline
    from deepconnotation.distributed import Team
    from deepconnotation.fit import Trainer
    from deepconnotation.models.fold import fold

    config, data = found.config, found.config["data"]
    team = team or Team()
    found = team.desk(found)
    say = say if team.leads else lambda _: None
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    counts = data["counts"]
    train = pipeline.load(data["path"], "train", found.classes)
    dev = pipeline.load(data["path"], "dev", found.classes) if "dev" in counts else None
    start = config["weights"]
    with team.scope():
        model = build(
            config["arch"], tuple(config["input_shape"]), len(found.classes), grey=data["grey"],
            affect=settings.affect != "none", **options(config["arch"], settings),
        )  # fmt: skip
        if start and start.get("folded"):
            model = fold(model)
    if start and not (found.path / "last" / "state.npz").exists():
        _load_weights(model, config, found.classes)
    teacher = config["teacher"]
    taught = _taught(teacher["folder"], train, found.classes) if teacher else None
    trainer = Trainer(found, model, settings, train, dev, taught, say, team)
    trainer.restore()
    say(f"{config['arch']}: {model.count_params():,} parameters; {data['name']}: "
        + ", ".join(f"{s} {sum(c.values())}" for s, c in counts.items())
        + f"; {config['precision']} on {config['device']}")  # fmt: skip
    if idle_gpu():
        say("There is an NVIDIA GPU, but this TensorFlow cannot use it: pip uninstall "
            "tensorflow-cpu, then pip install 'tensorflow[and-cuda]'")  # fmt: skip
    if dev is None and settings.multi_label:
        raise UserError("--multi-label: thresholds are chosen on a dev split; make one with "
                        "deepconnotation split")  # fmt: skip
    if dev is None:
        say("There is no dev split: the last epoch's weights are kept, nothing is chosen.")
    return trainer


def _train(trainer: "Trainer", tensorboard: bool, plot: bool) -> int:
    from deepconnotation.evaluate import Part, evaluate
    from deepconnotation.fit import Diverged

    with alone_in(trainer.run.path):
        # model.keras changes with every better epoch; its digest is known again at the end.
        trainer.run = trainer.run.update(state="running", model_sha256=None)
        if tensorboard:
            trainer.log_to_tensorboard()
        if plot:
            _plot(trainer.model, trainer.run.path)
        try:
            found = trainer.fit()
        except Diverged as error:
            print(f"error: {error}; no score is reported. Good weights of earlier epochs, if any, "
                  f"are in {trainer.run.path}. Try a lower --rate.", file=sys.stderr)  # fmt: skip
            return DIVERGED
        if trainer.team.leads:
            data = found.config["data"]
            evaluate(found, Path(data["path"]), Part("test" if "test" in data["counts"] else "dev"))
        trainer.team.meet()  # who leads is needed by the others until it is done
    return 0


def _plot(model, folder: Path) -> None:
    from deepconnotation.models import figure

    with file_atomic(folder / "model.png") as partial:
        figure.draw(model).savefig(partial, dpi=150)
    write_atomic(folder / "model.txt", figure.summary(model))
    print(f"the architecture is in {folder / 'model.png'} and {folder / 'model.txt'}")


def _taught(folder: str, train, classes: list[str]):
    """Return float64 (n, classes): the teacher's probabilities for the training pictures.

    Raises:
        UserError: when its predictions-train.csv is missing or lacks a class.
    """
    import numpy as np

    from deepconnotation import predictions

    path = Path(folder) / "predictions-train.csv"
    members = [[f"p_{member}" for member in name.split("+")] for name in classes]
    columns = ("id", *(name for names in members for name in names))
    table = predictions.read(path, columns, "give the embed command again").set_index("id")
    with reading(path, "give the embed command again"):
        table = table.loc[train.table["id"]].astype(float)
    return np.stack([table[names].sum(axis=1) for names in members], axis=1)


def _load_weights(model, config: dict, classes: list[str]) -> None:
    """Copy weights from ImageNet's or layer by layer from another run's model.

    Sizes of pictures may differ. The last layer is copied only where the run knows every class, in
    whatever order, and has as many features; that of valence and arousal where it has one, of as
    many features.

    Raises:
        UserError: when a layer is missing or has another shape.
    """
    from deepconnotation import run
    from deepconnotation.models.heads import AFFECT

    folder = config["weights"]["run"]
    if folder == IMAGENET or Path(folder).is_file():
        load_imagenet(config["arch"], model, folder)
        return
    source = run.load(folder)
    there = {layer.name: layer.get_weights() for layer in source.model.layers}
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    anew = {}
    if set(classes) <= set(source.classes):
        columns = [source.classes.index(name) for name in classes]
        there["logits"] = [w[..., columns] for w in there.get("logits", [])]
    else:
        anew["logits"] = "other classes"
    for name in ("logits", AFFECT):
        if name in layers and _shapes(there.get(name, [])) != _shapes(layers[name].weights):
            anew.setdefault(name, "other features" if name in there else "no valence and arousal")
    for name, what in anew.items():
        print(f"--weights {folder} has {what}: the layer {name!r} starts anew here")
        del layers[name]
    for layer in layers.values():
        weights = there.get(layer.name, [])
        if _shapes(weights) != _shapes(layer.weights):
            raise UserError(f"--weights {folder}: its layer {layer.name!r} does not fit this model")
        layer.set_weights(weights)


def _shapes(weights: list) -> list[tuple[int, ...]]:
    return [tuple(w.shape) for w in weights]


if __name__ == "__main__":
    run_command(main)
