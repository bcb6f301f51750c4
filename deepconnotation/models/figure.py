"""An architecture as a picture: a box a stage, with the size of its maps and its parameters."""

import math
import re

from matplotlib.figure import Figure

from deepconnotation.backend import keras

#: how a layer's name begins that opens a stage; others belong to the stage that follows them
STAGE = re.compile(r"(block_?\d+|stage\d+|mixed\d+|conv\d+(?=_|$)|dense\d+|head\d*|stem|top|lstm|"
                   r"member\d+|mean|embedding|logits|affect|image|normalise)",
                   re.IGNORECASE)  # fmt: skip
COLUMN = 14  # boxes one below the other at most
BLUE, PALE = "#2b5d9b", "#e8eef6"


def stages(model: keras.Model) -> list[tuple[str, tuple, int, int]]:
    """Return name, output shape without the batch, number of layers and of parameters, in order."""
    found: dict[str, list] = {}
    waiting: list = []
    for layer in model.layers:
        waiting.append(layer)
        match = STAGE.match(layer.name)
        if match:
            found.setdefault(match[0], []).extend(waiting)
            waiting = []
    return [
        (name, _shape(layers[-1]), len(layers),
         sum(layer.count_params() for layer in layers))
        for name, layers in found.items()
    ]  # fmt: skip


def summary(model: keras.Model) -> str:
    """Return a line a layer: name, kind, output shape without the batch, parameters."""
    rows = [
        (layer.name, type(layer).__name__, " x ".join(map(str, _shape(layer))),
         f"{layer.count_params():,}")
        for layer in model.layers
    ]  # fmt: skip
    rows = [("layer", "kind", "output", "parameters"), *rows, ("all", "", "", _count(model))]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ("  ".join((row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].ljust(widths[2]),
                        row[3].rjust(widths[3]))) for row in rows)  # fmt: skip
    return "\n".join(lines) + "\n"


def _shape(layer) -> tuple[int, ...]:
    """Return the shape of a layer's first output, without the batch."""
    return tuple(keras.tree.flatten(layer.output)[0].shape[1:])


def _count(model: keras.Model) -> str:
    return f"{model.count_params():,}"


def draw(model: keras.Model) -> Figure:
    """Return a figure of the model, to be saved in any format."""
    boxes = stages(model)
    columns = math.ceil(len(boxes) / COLUMN)
    rows = math.ceil(len(boxes) / columns)
    figure = Figure(figsize=(3.6 * columns, 0.62 * rows + 0.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, columns)
    axes.set_ylim(-rows - 0.2, 0.9)
    axes.axis("off")
    axes.text(0.05, 0.5, f"{model.name}: {_count(model)} parameters", weight="bold",
              fontsize=10, va="center")  # fmt: skip
    for number, (name, shape, layers, parameters) in enumerate(boxes):
        x, y = number // rows, -(number % rows)
        style = {"boxstyle": "round,pad=0.3", "facecolor": PALE, "edgecolor": BLUE}
        size = " x ".join(str(n) for n in shape)
        plural = "" if layers == 1 else "s"
        # a wide space: of several an SVG shows one
        text = f"{name}\u2003{size}\n{layers} layer{plural}, {parameters:,} parameters"
        axes.text(x + 0.5, y - 0.35, text, ha="center", va="center", fontsize=8, bbox=style)
        if name.startswith("member") and boxes[number - 1][0].startswith("member"):
            axes.text(x + 0.5, y + 0.15, "+", ha="center", va="center", color=BLUE)  # side by side
        elif number:
            axes.annotate("", (x + 0.5, y - 0.1), (x + 0.5, y + 0.4),
                          arrowprops={"arrowstyle": "->", "color": BLUE})  # fmt: skip
        if number and not y:  # from the foot of the column before
            bottom = -rows - 0.1
            axes.plot([x - 0.5, x - 0.5, x, x, x + 0.5], [bottom + 0.4, bottom, bottom, 0.4, 0.4],
                      color=BLUE, linewidth=1)  # fmt: skip
    return figure
