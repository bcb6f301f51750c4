"""The nets of keras.applications with a head of one's own, built flat.

Parameters with ImageNet's 1,000 classes, as Keras publishes them: vgg16 138,357,544 (Simonyan and
Zisserman, ICLR 2015, arXiv 1409.1556), resnet50_imagenet 25,636,712 (He et al., CVPR 2016, arXiv
1512.03385), inception_v3 23,851,784 (Szegedy et al., CVPR 2016, arXiv 1512.00567), mobilenet_v2
3,538,984 (Sandler et al., CVPR 2018, arXiv 1801.04381), efficientnet_b0 5,330,571 (Tan and Le, ICML
2019, arXiv 1905.11946).
"""

import re

import numpy as np

from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.models.heads import EMBEDDING, parts, top
from deepconnotation.models.inputs import divided, penalty, pictures

layers = keras.layers

#: name -> (of keras.applications, how its pictures are normalised)
BACKBONES = {
    "vgg16": ("VGG16", "caffe"),
    "resnet50_imagenet": ("ResNet50", "caffe"),
    "inception_v3": ("InceptionV3", "minus one to one"),
    "mobilenet_v2": ("MobileNetV2", "minus one to one"),
    "efficientnet_b0": ("EfficientNetB0", "own"),
}
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, in 0..255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    head: tuple[int, ...] = (),
    pooling: str = "avg",
    dropout: float = 0.2,
    l2: float = 0.0,
    faithful_input: bool = False,
) -> keras.Model:
    """Build a backbone and its head from pixels to logits.

    Args:
        arch: a key of `BACKBONES`.
        input_shape: (height, width, 3).
        classes: number of classes.
        grey: look at the luma only, given to all three channels.
        head: units of hidden layers between the features and the logits.
        pooling: "avg" (global mean) or "flatten" (all features of the last map).
        dropout: share of the head's nodes that are dropped.
        l2: weight of the L2 penalty on the head's kernels.
        faithful_input: divide by 255 before the backbone's own normalisation, as an original did.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes), with random weights.
    """
    make, style = BACKBONES[arch]
    inputs, x = pictures(input_shape, grey, channels=3)
    x = divided(x, faithful_input)
    if style == "caffe":
        x = keras.ops.flip(x, axis=-1)
        x = layers.Normalization(mean=CAFFE_MEAN, variance=(1.0, 1.0, 1.0), name="normalise")(x)
    elif style == "minus one to one":
        x = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(x)
    base = getattr(keras.applications, make)(include_top=False, weights=None, input_tensor=x)
    name_steadily(base)
    if style == "own":
        _normalise_as_imagenet(base)
    pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.Flatten
    features = pool(name=EMBEDDING)(base.output)
    regularizer = penalty(l2)
    logits = top(features, head, classes, dropout, regularizer)
    return keras.Model(inputs, logits, name=arch)


def name_steadily(base: keras.Model) -> None:
    """Number the layers that Keras names by kind from one, whatever was built before.

    The numbers follow the order in which Keras makes the layers, not that of `base.layers`.
    """
    kinds: dict[str, list] = {}
    for layer in base.layers:
        kind, number = re.fullmatch(r"(.*?)_?(\d*)", layer.name).groups()
        if kind.replace("_", "") == type(layer).__name__.lower():
            kinds.setdefault(kind, []).append((int(number or 0), layer))
    for kind, found in kinds.items():
        for number, (_, layer) in enumerate(sorted(found, key=lambda pair: pair[0]), start=1):
            layer.name = f"{kind}_{number}"


def _normalise_as_imagenet(base: keras.Model) -> None:
    """Give EfficientNet's own layer, which follows a division by 255, ImageNet's statistics."""
    (layer,) = (each for each in base.layers if isinstance(each, layers.Normalization))
    layer.adapt_mean.assign(IMAGENET_MEAN)
    layer.adapt_variance.assign(np.square(IMAGENET_STD))
    layer.finalize_state()


def load_imagenet(model: keras.Model, weights: str = "imagenet") -> None:
    """Give the backbone ImageNet weights; the head stays as it is.

    Args:
        model: of `build`.
        weights: "imagenet" downloads Keras' file into ~/.keras/models, or takes it from there; or
            the path of such a file.

    Raises:
        UserError: when the file cannot be had or does not fit, saying what to do.
    """
    make = getattr(keras.applications, BACKBONES[model.name][0])
    try:
        reference = make(include_top=False, weights=weights, input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises a plain Exception for what the network does
        raise UserError(_what_to_do(weights, str(error))) from None
    theirs = [layer for layer in reference.layers if _learned(layer)]
    ours = [layer for layer in parts(model)[0] if _learned(layer)]
    for layer, other in zip(ours, theirs, strict=True):
        layer.set_weights(other.get_weights())


def _learned(layer) -> bool:
    return bool(layer.weights) and not isinstance(layer, layers.Normalization)


def _what_to_do(weights: str, error: str) -> str:
    first = error.strip().splitlines()[0] if error.strip() else "unknown reason"
    url = re.search(r"https?://\S+?\.h5", error)
    if weights != "imagenet":
        return f"--weights {weights}: not a weights file of this architecture ({first})"
    if not url:
        return f"--weights imagenet: {first}"
    name = url[0].rsplit("/", 1)[-1]
    return (f"--weights imagenet: {url[0]} cannot be downloaded; fetch it on another machine and "
            f"give it as --weights {name}, or put it into ~/.keras/models")  # fmt: skip
