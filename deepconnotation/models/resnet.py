"""Pre-activation residual networks (He et al., ECCV 2016, arXiv 1603.05027).

Trainable parameters for 1,000 classes: resnet18 11,687,720, resnet34 21,795,880, resnet50
25,549,352, resnet101 44,541,480, resnet152 60,185,128. The first ResNets (CVPR 2016; in torchvision
11,689,512 to 60,192,808) differ only in the order of their parts, and so by a few thousand
parameters of batch normalisation.
"""

from deepconnotation.backend import keras
from deepconnotation.models.inputs import penalty, pictures
from deepconnotation.models.layers import stochastic_depth as drop_branch

layers = keras.layers

#: name -> (kind of block, blocks a stage)
VARIANTS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    stem: str = "7x7",
    width: int = 64,
    stochastic_depth: float = 0.0,
    dropout: float = 0.01,
    l2: float = 1e-4,
) -> keras.Model:
    """Build a pre-activation ResNet from pixels to logits.

    Args:
        arch: a key of `VARIANTS`.
        input_shape: (height, width, 3).
        classes: number of classes.
        grey: look at the luma only, so that colour cannot tell the label.
        stem: "7x7" (stride 2, then a 3x3 max-pool of stride 2, as published) or "3x3" (stride 1,
            for small pictures).
        width: filters of the first stage; doubled at every later one (published: 64).
        stochastic_depth: rate at which the last block is left out; it rises evenly from the first
            block's 0 (published: 0).
        dropout: rate between the convolutions of a block (the original: .01).
        l2: weight of the L2 penalty on the kernels.

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes).
    """
    kind, depths = VARIANTS[arch]
    block = {"basic": _basic, "bottleneck": _bottleneck}[kind]
    regularizer = penalty(l2)

    def conv(x, filters, size, name, strides=1):
        return layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, name=name,
            kernel_initializer="he_normal", kernel_regularizer=regularizer,
        )(x)  # fmt: skip

    inputs, x = pictures(input_shape, grey)
    x = layers.Rescaling(1 / 64, offset=-2.0, name="normalise")(x)
    if stem == "7x7":
        x = conv(x, width, 7, "stem_conv", strides=2)
        x = _bn_relu(x, "stem")
        x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    else:
        x = conv(x, width, 3, "stem_conv")
        x = _bn_relu(x, "stem")
    for stage, depth in enumerate(depths, start=1):
        for unit in range(1, depth + 1):
            strides = 2 if stage > 1 and unit == 1 else 1
            name = f"stage{stage}_block{unit}"
            # The stem has just normalised and activated what the very first block receives.
            active = x if (stage, unit) == (1, 1) else _bn_relu(x, f"{name}_pre")
            number = sum(depths[: stage - 1]) + unit - 1
            shortcut, y = block(conv, x, active, width * 2 ** (stage - 1), strides, dropout, name)
            rate = stochastic_depth * number / max(sum(depths) - 1, 1)
            y = drop_branch(y, rate, f"{name}_drop")
            x = layers.Add(name=f"{name}_add")([shortcut, y])
    x = _bn_relu(x, "head")
    x = layers.GlobalAveragePooling2D(name="embedding")(x)
    # Logits in float32 also under a mixed policy: a softmax in bfloat16 loses half its digits.
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=arch)


def _bn_relu(x, name):
    # Keras' default momentum, .99, lags hundreds of steps behind; ResNets are trained with .9.
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _basic(conv, x, active, filters, strides, dropout, name):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 where the shape changes."""
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = conv(active, filters, 1, f"{name}_shortcut", strides)
    y = conv(active, filters, 3, f"{name}_conv1", strides)
    y = _bn_relu(y, f"{name}_mid")
    y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return shortcut, conv(y, filters, 3, f"{name}_conv2")


def _bottleneck(conv, x, active, filters, strides, dropout, name):
    """1x1, 3x3 and 1x1 convolutions; the last is four times as wide."""
    shortcut = x
    if strides != 1 or x.shape[-1] != 4 * filters:
        shortcut = conv(active, 4 * filters, 1, f"{name}_shortcut", strides)
    y = conv(active, filters, 1, f"{name}_conv1")
    y = _bn_relu(y, f"{name}_mid1")
    y = conv(y, filters, 3, f"{name}_conv2", strides)
    y = _bn_relu(y, f"{name}_mid2")
    y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return shortcut, conv(y, 4 * filters, 1, f"{name}_conv3")
