"""The original projects' nets, exactly: structure, what is frozen, settings."""

import shlex

import numpy as np
import pytest

from deepconnotation import train
from deepconnotation.backend import keras
from deepconnotation.models import heads, registry
from deepconnotation.presets import PRESETS
from deepconnotation.settings import Settings


def built(preset: str, side: int, classes: int):
    args = train.parse(["--preset", preset])
    settings = Settings.from_dict(vars(args))
    settings.check()
    options = registry.options(args.arch, settings)
    with keras.StatelessScope():  # sizes alone: no weights are drawn
        model = registry.build(args.arch, (side, side, 3), classes, **options)
    if settings.freeze_until:
        heads.freeze_until(model, settings.freeze_until)
    return model, settings


def trainable(model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def conv(kernel: int, *channels: int) -> int:
    pairs = zip(channels, channels[1:], strict=False)
    return sum((kernel * kernel * a + 1) * b for a, b in pairs)


def test_affectnet_vgg16():
    """Facts C: 7x7x512 = 25,088 features, 4,096 units, 8 classes; the first three blocks frozen."""
    model, settings = built("affectnet-vgg16", 224, 8)
    assert model.get_layer("embedding").output.shape == (None, 25_088)
    assert model.get_layer("head1_dense").units == 4096
    blocks = conv(3, 256, 512, 512, 512) + conv(3, 512, 512, 512, 512)
    assert trainable(model) == blocks + 25_089 * 4096 + 4097 * 8
    assert model.count_params() == 14_714_688 + 25_089 * 4096 + 4097 * 8
    assert not model.get_layer("block3_conv3").trainable
    assert model.get_layer("block4_conv1").trainable
    assert (settings.optimizer, settings.rate, settings.batch, settings.epochs) == (
        "adam", 1e-4, 64, 3)  # fmt: skip


def test_emotion_image_resnet50():
    """Facts D, model_6: global average, five classes, layers 0 to 140 of Keras' net frozen."""
    model, _ = built("emotion-image-resnet50", 224, 5)
    assert model.count_params() == 23_587_712 + 2049 * 5
    # Keras' own net has the input before these, ours also the order of colours and their means.
    names = [layer.name for layer in model.layers]
    assert names.index("conv4_block6_3_bn") - names.index("conv1_pad") == 140 - 1
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert frozen[-1] == "conv4_block6_3_bn" and model.get_layer("conv5_block1_1_conv").trainable


def test_emotion_image_vgg():
    model, settings = built("emotion-image-vgg", 256, 6)
    assert model.count_params() == 7_395_782 and settings.class_weights == "effective:.9999"


def test_facial_expressions_cnn():
    model, settings = built("facial-expressions-cnn", 50, 8)
    assert model.count_params() == 245_592 and (settings.batch, settings.epochs) == (16, 12)


@pytest.mark.parametrize("name", PRESETS)
def test_other_flags_change_a_preset(name):
    args = train.parse(["--preset", name, "--epochs", "7"])
    assert args.epochs == 7 and args.arch == shlex.split(PRESETS[name])[1]
