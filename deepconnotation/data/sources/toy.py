"""The embedded data set: pictures this module draws, with the eight emotions of FI.

What a class looks like follows Machajdik and Hanbury (ACM Multimedia 2010): pleasant emotions are
bright, warm and round; unpleasant ones dark, cold or muddy, and angular. Some pictures lie between
two classes, so nothing reaches 100 %. The set shows the whole path in a minute; no result on it
says anything about emotions.
"""

import colorsys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepconnotation.console import write_atomic
from deepconnotation.data.sources import Item, Source
from deepconnotation.emotions import FI

COUNT = 150  # pictures a class
SIZE = 64
AMBIGUOUS = 0.12  # share of pictures that lie between two classes


@dataclass(frozen=True)
class Look:
    """How a class is drawn; every value is 0 to 1.

    Attributes:
        hue: of the shapes, on the colour circle.
        spread: of the hues around it.
        saturation: of the colours.
        brightness: of the ground.
        angular: share of shapes with points instead of round ones.
        count: of shapes.
        rough: strength of the texture.
        tilt: how far strokes leave the horizontal.
    """

    hue: float
    spread: float
    saturation: float
    brightness: float
    angular: float
    count: float
    rough: float
    tilt: float


LOOKS = {
    #                 hue  spread  sat  light angular count rough tilt
    "amusement":   Look(.12, .35, .85, .85, .15, .60, .15, .40),
    "anger":       Look(.99, .06, .90, .30, .90, .60, .60, .90),
    "awe":         Look(.60, .10, .60, .65, .35, .15, .20, .10),
    "contentment": Look(.28, .12, .50, .80, .05, .30, .10, .10),
    "disgust":     Look(.20, .08, .55, .40, .40, .60, .80, .50),
    "excitement":  Look(.05, .30, .95, .75, .50, .80, .25, .80),
    "fear":        Look(.72, .10, .35, .20, .80, .35, .50, .70),
    "sadness":     Look(.60, .06, .25, .40, .20, .20, .30, .15),
}  # fmt: skip


def draw(emotion: str, index: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Draw one picture.

    Args:
        emotion: a class of FI.
        index: number of the picture; every number is another picture.
        size: height and width, pixels.
        seed: of the whole set.

    Returns:
        uint8 (size, size, 3), the same for the same arguments.

    Raises:
        UnknownLabel: for another word.
    """
    rng = np.random.default_rng((seed, FI.id_of(emotion), index))
    look = _personal_look(FI.canonical(emotion), rng)
    canvas = Image.fromarray(_ground(look, 2 * size, rng))
    brush = ImageDraw.Draw(canvas)
    for _ in range(3 + int(14 * look.count)):
        _shape(brush, look, 2 * size, rng)
    canvas = canvas.filter(ImageFilter.GaussianBlur(0.8)).resize((size, size))
    return _texture(np.asarray(canvas, np.float64), look, rng)


def _personal_look(emotion: str, rng: np.random.Generator) -> Look:
    values = np.array(astuple(LOOKS[emotion]))
    if rng.random() < AMBIGUOUS:
        other = LOOKS[FI.classes[rng.integers(len(FI.classes))]]
        values = (values + np.array(astuple(other))) / 2
    values += rng.normal(0, 0.11, values.shape) * np.array([0.6, 0.5, 1, 1, 1, 1, 1, 1])
    return Look(values[0] % 1, *np.clip(values[1:], 0, 1))


def _colour(look: Look, rng: np.random.Generator) -> tuple[int, int, int]:
    hue = (look.hue + rng.uniform(-1, 1) * look.spread) % 1
    value = np.clip(0.35 + 0.6 * look.brightness + rng.normal(0, 0.12), 0.05, 1)
    saturation = np.clip(look.saturation + rng.normal(0, 0.1), 0, 1)
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))


def _ground(look: Look, size: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth slope between two colours of the look, uint8 (size, size, 3)."""
    ends = np.array([_colour(look, rng), _colour(look, rng)]) * (0.35 + 0.65 * look.brightness)
    angle = np.pi / 2 + (rng.random() - 0.5) * np.pi * look.tilt
    y, x = np.mgrid[0:1:size * 1j, 0:1:size * 1j] - 0.5
    slope = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
    return (ends[0] * (1 - slope) + ends[1] * slope).astype(np.uint8)


def _shape(brush: ImageDraw.ImageDraw, look: Look, size: int, rng: np.random.Generator) -> None:
    x, y = rng.random(2) * size
    radius = size * rng.uniform(0.05, 0.08 + 0.22 * (1 - look.count))
    colour = _colour(look, rng)
    kind = rng.random()
    if kind < 0.25:
        angle = (rng.random() - 0.5) * np.pi * look.tilt
        dx, dy = 2.5 * radius * np.cos(angle), 2.5 * radius * np.sin(angle)
        brush.line((x - dx, y - dy, x + dx, y + dy), colour, width=max(2, int(radius / 5)))
    elif kind < 0.25 + 0.75 * look.angular:
        turns = np.sort(rng.random(3 + rng.integers(3))) * 2 * np.pi
        reach = radius * rng.uniform(0.5, 1.6, turns.shape)
        points = np.stack([x + reach * np.cos(turns), y + reach * np.sin(turns)], axis=1)
        brush.polygon([tuple(p) for p in points], fill=colour)
    else:
        flat = rng.uniform(0.7, 1.0)
        brush.ellipse((x - radius, y - radius * flat, x + radius, y + radius * flat), fill=colour)


def _texture(pixels: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    size = pixels.shape[0]
    coarse = rng.normal(0, 1, (size // 4 + 1, size // 4 + 1)).repeat(4, 0).repeat(4, 1)
    noise = 26 * look.rough * coarse[:size, :size, None] + rng.normal(0, 9, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def pictures(
    per_class: int = COUNT, size: int = SIZE, seed: int = 0
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (id, emotion, uint8 (size, size, 3)), the classes in turn."""
    for index in range(per_class):
        for emotion in FI.classes:
            yield f"toy_{emotion}_{index:04}", emotion, draw(emotion, index, size, seed)


def read(folder: str | Path, per_class: int = COUNT) -> Source:
    """Draw the set as PNG files, unless they are there already, and list them."""
    folder = Path(folder)
    items = []
    for name, emotion, pixels in pictures(per_class):
        path = folder / emotion / f"{name}.png"
        if not path.exists():
            encoded = BytesIO()
            Image.fromarray(pixels).save(encoded, "PNG")
            write_atomic(path, encoded.getvalue())
        items.append(Item(f"{emotion}/{name}.png", emotion, path))
    return Source("toy", FI, items, [], "Apache-2.0, drawn by this package", drawn=True)

