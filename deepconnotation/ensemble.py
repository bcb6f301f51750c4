"""Average the answers of several runs, or their weights, as one run folder.

    python -m deepconnotation.ensemble snapshots/fi-s0 snapshots/fi-s1 --run snapshots/fi-all
    python -m deepconnotation.ensemble snapshots/first snapshots/longer --soup --run snapshots/both

The probabilities of the members are averaged. They must know the same classes, and none may have
seen what the first one's data set keeps for dev or test; evaluate, predict and the report then work
on the folder as on any other. It takes pictures of the first one's size; others see them at theirs.

With --soup their weights are averaged instead: one net, no larger or slower than a member. For runs
that began from each other or from the same net; the mean of unrelated weights knows nothing.
"""

import argparse
import shlex
import shutil
import sys
from itertools import chain
from pathlib import Path

from deepconnotation import run
from deepconnotation.console import UserError, argument_parser, run_command

SAME = ("classes", "emotion_set", "merge")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.ensemble")
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="folders of two or more runs")
    add("--soup", action="store_true", help="average their weights, not their answers")
    add("--run", metavar="DIR", required=True, help="folder of the new run")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    from deepconnotation.evaluate import Part, evaluate

    args = parse(arguments)
    folder = Path(args.run)
    found = _without_figures(folder) or ensemble(
        [run.load(member) for member in args.runs], folder, args.soup
    )
    data = found.config["data"]
    evaluate(found, Path(data["path"]), Part("test" if "test" in data["counts"] else "dev"))


def _command() -> str:
    return shlex.join(["python", "-m", "deepconnotation.ensemble", *sys.argv[1:]])


def _without_figures(folder: Path) -> run.Run | None:
    """Return what the same command has made before it was stopped in its evaluation."""
    if not (folder / "run.json").exists() or any(folder.glob("metrics*.json")):
        return None
    found = run.load(folder)
    mine = found.config.get("command") == _command() and found.config["state"] == "finished"
    return found if mine else None


def ensemble(members: list[run.Run], folder: Path, as_soup: bool = False) -> run.Run:
    """Write a run folder whose model averages the members' probabilities, or is their `soup`.

    Args:
        members: two or more finished runs.
        folder: of the new run.
        as_soup: average the weights instead of the probabilities.

    Returns:
        The new run; its model gives the logarithms of the mean probabilities, or the soup's logits.
        The first one's dev split chooses its temperature and the limit of its prediction sets.

    Raises:
        UserError: when there is one member only, or members do not fit each other.
    """
    from deepconnotation import seen

    check(members)
    first = members[0].config
    test_flip = any(member.test_flip for member in members)
    if as_soup:
        model = soup(members)
        arch, settings = first["arch"], {**first["settings"], "test_flip": test_flip}
    else:
        model = average([m.model for m in members], [m.temperature for m in members])
        told = "mean" if all(member.axes for member in members) else "none"
        share = first["settings"].get("affect_share", 0)
        arch = "ensemble"
        settings = {"test_flip": test_flip, "affect": told, "affect_share": share}
    made = run.create(folder, {
        **{name: first[name] for name in SAME if name in first},
        "input_shape": first["input_shape"],
        "arch": arch, "folded": as_soup and first.get("folded", False),
        "command": _command(),
        "members": [str(member.path) for member in members],
        "learned_from": list(dict.fromkeys(chain(*(seen.data_sets(m.config) for m in members)))),
        "settings": settings, "weights": None, "teacher": None,
        "seed": ", ".join(str(member.config["seed"]) for member in members),
        "monitor": first["monitor"], "precision": first["precision"], "device": first["device"],
        "data": first["data"],
    })  # fmt: skip
    path = made.path / "model.keras"
    seconds = sum(member.config.get("train_seconds", 0) for member in members)
    try:
        run.save_model(model, path)
        seen.write(made.path, *(seen.of(member) for member in members))
        chosen = _chosen_on_dev(made) if "dev" in first["data"]["counts"] else {}
    except BaseException:  # Ctrl-C, too: half made, it would answer without its temperature
        shutil.rmtree(made.path)
        raise
    return made.update(
        state="finished", model_sha256=run.file_sha256(path), train_seconds=seconds, **chosen
    )


def _chosen_on_dev(made: run.Run) -> dict[str, float]:
    """Return what dev chooses for the mean, which is less sure than its members."""
    import numpy as np

    from deepconnotation import calibration
    from deepconnotation.data import pipeline
    from deepconnotation.evaluate import predict_split

    dev = pipeline.load(made.config["data"]["path"], "dev", made.classes)
    probabilities = np.maximum(predict_split(made, dev)[0], 1e-30)  # 0 has no logarithm
    return calibration.chosen(np.log(probabilities), dev.labels)


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
        if member.tells_classes != first.tells_classes:
            raise UserError(f"of {first.path} and {member.path} one learned classes, and the other "
                            "valence and arousal alone")  # fmt: skip
        for name in SAME:
            if member.config.get(name) != first.config.get(name):
                raise UserError(f"{member.path} has another {name.replace('_', ' ')} than "
                                f"{first.path}")  # fmt: skip
        if member.config["data"]["fingerprint"] != first.config["data"]["fingerprint"]:
            seen.refuse(str(member.path), seen.of(member), first.config["data"]["path"])


def average(models: list, temperatures: list[float], size: tuple[int, int] | None = None):
    """Return a model of the logarithms of the models' mean probabilities.

    Args:
        models: from pictures (batch, H, W, 3) to logits (batch, classes). Where all of them tell
            valence and arousal, so does the new one: the mean.
        temperatures: that the members' logits are divided by.
        size: height and width of the pictures that the new one takes, and makes as large as each
            member needs; None is the first one's.
    """
    from deepconnotation.backend import keras

    layers = keras.layers
    size = size or models[0].input_shape[1:3]
    inputs = keras.Input((*size, 3), name="image")
    answers, told = [], []
    for number, (model, temperature) in enumerate(zip(models, temperatures, strict=True), start=1):
        model.name = f"member{number}"
        softmax = layers.Softmax(dtype="float32", name=f"member{number}_probabilities")
        x = inputs
        own = model.input_shape[1:3]
        if own != size:
            x = layers.Resizing(*own, dtype="float32", name=f"member{number}_size")(inputs)
        logits, *affect = keras.tree.flatten(model(x))
        answers.append(softmax(logits / temperature))
        told += affect
    mean = layers.Average(dtype="float32", name="mean")(answers)
    outputs = [keras.ops.log(keras.ops.maximum(mean, 1e-30))]
    if len(told) == len(models):
        outputs.append(layers.Average(dtype="float32", name="affect")(told))
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="ensemble")


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
    from deepconnotation.models.layers import finalize

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
    return finalize(mean)


def _layers(model) -> list[tuple]:
    return [(w.path, tuple(w.shape)) for w in model.weights]


if __name__ == "__main__":
    run_command(main)
