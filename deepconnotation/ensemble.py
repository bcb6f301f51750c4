"""Average the answers of several runs, or their weights, as one run folder.

    python -m deepconnotation.ensemble snapshots/fi-s0 snapshots/fi-s1 --run snapshots/fi-all
    python -m deepconnotation.ensemble snapshots/fi@160 snapshots/fi@192 --run snapshots/fi-sizes
    python -m deepconnotation.ensemble snapshots/first snapshots/longer --soup --run snapshots/both

The probabilities of the members are averaged. They must know the same classes, and none may have
seen what the first one's data set keeps for dev or test; evaluate, predict and the report then work
on the folder as on any other. It takes pictures of the first one's size; others see them at theirs.

RUN@SIDE is a run that sees pictures SIDE pixels high, which may be given at several sizes (as
Simonyan and Zisserman 2015, arXiv:1409.1556, tested theirs): slower, its weights are there once.

With --soup their weights are averaged instead: one net, no larger or slower than a member. For runs
that began from each other or from the same net; the mean of unrelated weights knows nothing.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from deepconnotation import run
from deepconnotation.console import UserError, argument_parser, run_command

SAME = ("classes", "emotion_set", "merge")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.ensemble")
    add = parser.add_argument
    add("runs", metavar="RUN[@SIDE]", nargs="+", help="two or more runs, or sizes of one")
    add("--soup", action="store_true", help="average their weights, not their answers")
    add("--run", metavar="DIR", required=True, help="folder of the new run")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    from deepconnotation.evaluate import Part, evaluate

    args = parse(arguments)
    folders, sides = zip(*map(_with_side, args.runs), strict=True)
    loaded = {folder: run.load(folder) for folder in folders}
    members = [loaded[folder] for folder in folders]
    found = ensemble(members, Path(args.run), args.soup, sides)
    data = found.config["data"]
    evaluate(found, Path(data["path"]), Part("test" if "test" in data["counts"] else "dev"))


def _with_side(told: str) -> tuple[Path, int | None]:
    """Return the folder and the side of RUN@SIDE; None where none is told."""
    match = re.fullmatch(r"(.+)@([1-9]\d*)", told)
    if not match or Path(told).exists():
        return Path(told), None
    return Path(match[1]), int(match[2])


def ensemble(
    members: list[run.Run], folder: Path, as_soup: bool = False,
    sides: Sequence[int | None] | None = None,
) -> run.Run:  # fmt: skip
    """Write a run folder whose model averages the members' probabilities, or is their `soup`.

    Args:
        members: two or more finished runs; one may be there several times, with several sides.
        folder: of the new run.
        as_soup: average the weights instead of the probabilities.
        sides: for each member, the height of the pictures it sees, pixels; None is its own.

    Returns:
        The new run; its model gives the logarithms of the mean probabilities, or the soup's logits.
        The first one's dev split chooses its temperature and the limit of its prediction sets.

    Raises:
        UserError: when there is one member only, or members do not fit each other, or their sides.
    """
    from deepconnotation import seen

    sides = sides or [None] * len(members)
    check(members)
    first = members[0].config
    different = list({member.path: member for member in members}.values())
    test_flip = any(member.test_flip for member in members)
    if as_soup:
        if any(sides):
            raise UserError("--soup averages weights, which have no SIDE; leave @SIDE out")
        model = soup(members)
        arch, settings = first["arch"], {**first["settings"], "test_flip": test_flip}
    else:
        model = average([m.model for m in members], [m.temperature for m in members], sides)
        told = "mean" if all(member.axes for member in members) else "none"
        arch, settings = "ensemble", {"test_flip": test_flip, "affect": told}
    made = run.create(folder, {
        **{name: first[name] for name in SAME if name in first},
        "input_shape": first["input_shape"],
        "arch": arch, "folded": as_soup and first.get("folded", False),
        "command": shlex.join(["python", "-m", "deepconnotation.ensemble", *sys.argv[1:]]),
        "members": [f"{member.path}@{side}" if side else str(member.path)
                    for member, side in zip(members, sides, strict=True)],
        "learned_from": list(dict.fromkeys(chain(*(seen.data_sets(m.config) for m in different)))),
        "settings": settings, "weights": None, "teacher": None,
        "seed": ", ".join(str(member.config["seed"]) for member in different),
        "monitor": first["monitor"], "precision": first["precision"], "device": first["device"],
        "data": first["data"],
    })  # fmt: skip
    path = made.path / "model.keras"
    run.save_model(model, path)
    seconds = sum(member.config.get("train_seconds", 0) for member in different)
    seen.write(made.path, *(seen.of(member) for member in different))
    chosen = _chosen_on_dev(made) if "dev" in first["data"]["counts"] else {}
    return made.update(
        state="finished", model_sha256=run.file_sha256(path), train_seconds=seconds, **chosen
    )


def _chosen_on_dev(made: run.Run) -> dict[str, float]:
    """Return what dev chooses for the mean, which is less sure than its members."""
    import numpy as np

    from deepconnotation import calibration
    from deepconnotation.data import pipeline
    from deepconnotation.evaluate import predict_split

    dev = pipeline.load(Path(made.config["data"]["path"]), "dev")
    return calibration.chosen(np.log(predict_split(made, dev)[0]), dev.labels)


def check(members: list[run.Run]) -> None:
    """Refuse runs that cannot answer together, or of which one has learned what tests the others.

    Raises:
        UserError: naming the run and what differs.
    """
    from deepconnotation import seen

    if len(members) < 2:
        raise UserError("an ensemble needs two runs or more")
    first = members[0]
    for member in members:
        if member.config["state"] != "finished":
            raise UserError(f"{member.path} is {member.config['state']}; finish it first")
        if member.multi_label:
            raise UserError(f"{member.path} tells several labels a picture; there are no ensembles "
                            "of such runs")  # fmt: skip
        for name in SAME:
            if member.config.get(name) != first.config.get(name):
                raise UserError(f"{member.path} has another {name.replace('_', ' ')} than "
                                f"{first.path}")  # fmt: skip
        if member.config["data"]["fingerprint"] != first.config["data"]["fingerprint"]:
            seen.refuse(str(member.path), seen.of(member), first.config["data"]["path"])


def average(models: list, temperatures: list[float], sides: Sequence[int | None] | None = None):
    """Return a model of the logarithms of the models' mean probabilities.

    Args:
        models: from pictures (batch, H, W, 3) to logits (batch, classes). The new one takes
            pictures of the first one's size and makes them as large as each of the others needs.
            Where all of them tell valence and arousal, so does the new one: the mean.
        temperatures: that the members' logits are divided by.
        sides: for each, the height of the pictures it sees; None is its own. A model may be there
            several times, with several sides.

    Raises:
        UserError: when a model with a side works on pictures of its own size only.
    """
    from deepconnotation.backend import keras

    layers = keras.layers
    inputs = keras.Input(models[0].input_shape[1:], name="image")
    sides = sides or [None] * len(models)
    sized = {id(model) for model, side in zip(models, sides, strict=True) if side}
    nets = {id(model): model for model in models}
    nets = {key: _of_any_size(net) if key in sized else net for key, net in nets.items()}
    for number, net in enumerate(nets.values(), start=1):
        net.name = f"member{number}"
    answers, told = [], []
    views = zip(models, temperatures, sides, strict=True)
    for number, (model, temperature, side) in enumerate(views, start=1):
        net, x, (height, width) = nets[id(model)], inputs, model.input_shape[1:3]
        if side:
            height, width = side, round(side * width / height)
        if id(model) in sized or (height, width) != inputs.shape[1:3]:
            name = f"{net.name}_size{number}"
            x = layers.Resizing(height, width, dtype="float32", name=name)(inputs)
        softmax = layers.Softmax(dtype="float32", name=f"{net.name}_probabilities{number}")
        logits, *affect = keras.tree.flatten(net(x))
        answers.append(softmax(logits / temperature))
        told += affect
    mean = layers.Average(dtype="float32", name="mean")(answers)
    outputs = [keras.ops.log(keras.ops.maximum(mean, 1e-30))]
    if len(told) == len(models):
        outputs.append(layers.Average(dtype="float32", name="affect")(told))
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="ensemble")


def _of_any_size(model):
    """Return the same net for pictures of any size."""
    from deepconnotation.models.inputs import for_size

    try:
        return for_size(model, None, None)
    except ValueError:
        raise UserError(
            f"{model.name} works on pictures of its own size only; give it without @SIDE"
        ) from None


def soup(members: list[run.Run]):
    """Return one model whose weights are the mean of the members' (Wortsman et al. 2022, "Model
    soups", arXiv:2203.05482).

    Args:
        members: runs of one architecture with the same options.

    Returns:
        From pictures to logits, as a member's model.

    Raises:
        UserError: when a member has other layers, or pictures of another size.
    """
    import numpy as np

    from deepconnotation.backend import keras

    first = members[0].model
    for member in members[1:]:
        if _layers(member.model) != _layers(first) or member.size != members[0].size:
            raise UserError(
                f"--soup: {member.path} has other layers than {members[0].path}, or another "
                "picture size; without --soup their answers are averaged"
            )
    mean = keras.models.clone_model(first)
    weights = zip(*(member.model.get_weights() for member in members), strict=True)
    mean.set_weights([np.mean(each, axis=0) for each in weights])
    return mean


def _layers(model) -> list[tuple]:
    return [(w.path, tuple(w.shape)) for w in model.weights]


if __name__ == "__main__":
    run_command(main)
