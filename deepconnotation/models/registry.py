"""Every architecture by name."""

import difflib
from typing import TYPE_CHECKING

from deepconnotation.console import UserError

if TYPE_CHECKING:
    import keras

#: name -> module of `deepconnotation.models` that builds it. Names alone, so that `--help` needs
#: no TensorFlow.
ARCHITECTURES = dict.fromkeys(
    ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), "resnet"
)
#: A short name for the smallest of a family.
SHORT = {"resnet": "resnet18"}


def resolve(arch: str) -> str:
    """Return the full name of an architecture.

    Raises:
        UserError: naming the nearest known one.
    """
    name = SHORT.get(arch, arch)
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(arch, [*SHORT, *ARCHITECTURES], n=1, cutoff=0)[0]
        raise UserError(f"--arch {arch!r} is not known; the nearest is {near!r} "
                        f"(there are {', '.join(ARCHITECTURES)})")  # fmt: skip
    return name


def build(
    arch: str, input_shape: tuple[int, int, int], classes: int, **options
) -> "keras.Model":
    """Build a model by name; see the module of its family for the options.

    Args:
        arch: a full or a short name.
        input_shape: (height, width, 3).
        classes: number of classes.
        **options: of the family's `build`.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes).
    """
    from importlib import import_module

    name = resolve(arch)
    family = import_module(f"deepconnotation.models.{ARCHITECTURES[name]}")
    return family.build(name, input_shape, classes, **options)
