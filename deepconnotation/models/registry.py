"""Every architecture by name."""

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from deepconnotation.console import UserError

if TYPE_CHECKING:
    import keras

    from deepconnotation.settings import Settings

#: name -> module of `deepconnotation.models` that builds it. Names alone, so that `--help` needs
#: no TensorFlow.
ARCHITECTURES = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), "resnet"),
    "fractal": "fractal",
    "small_cnn": "small_cnn",
    "vgg": "vgg",
    "efficientnet_lite0": "efficientnet_lite",
    **dict.fromkeys(("vgg16", "resnet50_imagenet", "inception_v3", "mobilenet_v2",
                     "efficientnet_b0"), "transfer"),
    "show_and_tell": "show_and_tell",
}  # fmt: skip
#: module -> settings of a run that its `build` takes
OPTIONS = {
    "resnet": ("stem", "width", "stochastic_depth", "dropout", "l2"),
    "fractal": ("blocks", "columns", "width", "dropout", "drop_path", "initializer",
                "faithful_join", "deepest"),
    "small_cnn": ("dropout", "l2"),
    "vgg": ("l2", "faithful_input"),
    "efficientnet_lite": ("stages", "head", "stochastic_depth", "dropout", "l2"),
    "transfer": ("head", "pooling", "dropout", "l2", "faithful_input"),
    "show_and_tell": ("head", "dropout"),
}  # fmt: skip
#: Smallest side of the pictures, pixels, where it is not 1; below it some layer has no output.
SMALLEST = {"vgg": 46, "inception_v3": 75, **dict.fromkeys(
    ("vgg16", "resnet50_imagenet", "mobilenet_v2", "efficientnet_b0"), 32
)}  # fmt: skip
#: Modules with a `load_imagenet(model, weights)`.
PRETRAINED = ("efficientnet_lite", "transfer", "show_and_tell")
ILSVRC = "ImageNet (ILSVRC 2012)"
#: What weights from elsewhere have learned from, the last first, where it is not ImageNet alone.
LEARNED_FROM = {"show_and_tell": ("MSCOCO (captions)", ILSVRC)}
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


def options(arch: str, settings: "Settings") -> dict[str, object]:
    """Return those settings that shape this architecture, as `build` takes them.

    A setting of None is left out: the architecture's own default holds.

    Raises:
        UserError: when another one, that would be without effect, was given.
    """
    known = OPTIONS[ARCHITECTURES[resolve(arch)]]
    for name in {name for names in OPTIONS.values() for name in names} - {*known}:
        if getattr(settings, name) != getattr(type(settings), name):
            raise UserError(f"--{name} {getattr(settings, name)}: --arch {arch} has no such option")
    values = {name: getattr(settings, name) for name in known}
    return {name: value for name, value in values.items() if value is not None}


def build(
    arch: str, input_shape: tuple[int, int, int], classes: int, affect: bool = False, **options
) -> "keras.Model":
    """Build a model by name; see the module of its family for the options.

    Args:
        arch: a full or a short name.
        input_shape: (height, width, 3).
        classes: number of classes.
        affect: add a second output, see `heads.with_affect`.
        **options: of the family's `build`.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes).

    Raises:
        UserError: when the pictures are too small.
    """
    from deepconnotation.models import precision

    name = resolve(arch)
    smallest = SMALLEST.get(name, 1)
    if min(input_shape[:2]) < smallest:
        raise UserError(f"--arch {name} needs pictures of at least {smallest} pixels; these have "
                        f"{input_shape[0]}x{input_shape[1]}")  # fmt: skip
    model = _family(name).build(name, input_shape, classes, **options)
    for layer in precision.convolutions(model.layers):
        precision.for_learning(layer)
    if affect:
        from deepconnotation.models.heads import with_affect

        model = with_affect(model)
    return model


def load_imagenet(arch: str, model: "keras.Model", weights: str = "imagenet") -> None:
    """Give a model of this architecture its ImageNet weights, all but the head.

    Args:
        arch: a full or a short name.
        model: of `build`.
        weights: "imagenet", or the path of the file that its family would take.

    Raises:
        UserError: when there are none for it or they cannot be had, saying what to do.
    """
    _family(resolve(arch)).load_imagenet(model, weights)


def pretrained() -> list[str]:
    """Return the architectures that have weights from elsewhere."""
    return [name for name, family in ARCHITECTURES.items() if family in PRETRAINED]


def learned_from(arch: str) -> list[str]:
    """Return the data sets that an architecture's weights from elsewhere have learned from."""
    return [*LEARNED_FROM.get(resolve(arch), (ILSVRC,))]


def check_imagenet(arch: str) -> None:
    """Refuse an architecture that has no ImageNet weights.

    Raises:
        UserError: naming those that have.
    """
    if resolve(arch) not in pretrained():
        raise UserError(f"--weights imagenet: there are none for --arch {arch} (only for "
                        f"{', '.join(pretrained())})")  # fmt: skip


def _family(name: str):
    return import_module(f"deepconnotation.models.{ARCHITECTURES[name]}")
