"""Architectures against the papers' structure and parameter counts."""

import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.models import registry
from deepconnotation.settings import Settings

#: Trainable parameters of the first ResNets with 1,000 classes, as torchvision publishes them.
POST_ACTIVATION = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808,
}  # fmt: skip
DEPTHS = {
    "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3),
}  # fmt: skip


def normalised_channels(arch: str, pre_activation: bool) -> int:
    """Channels under batch normalisation, counted from the papers' figures."""
    deep = arch not in ("resnet18", "resnet34")
    total, x = 64, 64  # the stem
    for stage, depth in enumerate(DEPTHS[arch]):
        f = 64 * 2**stage
        out = 4 * f if deep else f
        for unit in range(depth):
            inner = 2 * f if deep else f
            if pre_activation:
                total += inner + (0 if stage == unit == 0 else x)
            else:
                total += inner + out + (out if unit == 0 and x != out else 0)
            x = out
    return total + (x if pre_activation else 0)


@pytest.mark.parametrize("arch", POST_ACTIVATION)
def test_parameters(arch):
    with keras.StatelessScope():  # sizes alone: no weights are drawn
        model = registry.build(arch, (64, 64, 3), 1000)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    before, after = (2 * normalised_channels(arch, pre) for pre in (False, True))
    assert trainable == POST_ACTIVATION[arch] - before + after
    assert f"{trainable:,}" in sys.modules["deepconnotation.models.resnet"].__doc__


@pytest.mark.parametrize(
    ("options", "size"), [({}, 1), ({"stem": "3x3"}, 4), ({"stem": "3x3", "grey": True}, 4)]
)
def test_structure_at_32_pixels(options, size):
    model = registry.build("resnet", (32, 32, 3), 8, width=8, **options)
    assert model.get_layer("stage4_block2_add").output.shape[1:] == (size, size, 64)
    assert model.output_shape == (None, 8)
    assert model.get_layer("stage1_block1_dropout").rate == 0.01
    kernels = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(kernels) == 1 + 16 + 3  # the stem, two a block, three shortcuts
    assert all(k.kernel_regularizer.l2 == pytest.approx(1e-4) for k in kernels)
    stem = model.get_layer("stem_conv")
    assert stem.kernel.shape[2] == (1 if options.get("grey") else 3)


@pytest.mark.parametrize(
    ("arch", "first", "last"),
    [("resnet18", "stage1_block2", "stage4_block2"),
     ("efficientnet_lite0", "stage2_block2", "stage6_block4")],
)  # fmt: skip
def test_stochastic_depth_leaves_whole_branches_out(arch, first, last):
    model = registry.build(arch, (32, 32, 3), 8, stochastic_depth=0.4)
    drops = {layer.name: layer for layer in model.layers if layer.name.endswith("_drop")}
    assert [*drops][0] == f"{first}_drop" and [*drops][-1] == f"{last}_drop"
    rates = [layer.rate for layer in drops.values()]
    assert rates == sorted(rates) and rates[0] > 0
    number, blocks = {"resnet18": (7, 8), "efficientnet_lite0": (14, 16)}[arch]
    assert rates[-1] == pytest.approx(0.4 * number / (blocks - 1))
    kept = np.asarray(drops[f"{last}_drop"](np.ones((200, 2, 2, 4), np.float32), training=True))
    whole = kept.reshape(200, -1)
    assert (whole.min(axis=1) == whole.max(axis=1)).all()
    assert np.mean(whole[:, 0] == 0) == pytest.approx(rates[-1], abs=0.14)  # four standard errors
    assert np.allclose(whole.max(), 1 / (1 - rates[-1]))


def test_grey_model_sees_luma_only():
    keras.utils.set_random_seed(0)
    model = registry.build("resnet18", (16, 16, 3), 8, width=8, stem="3x3", grey=True)
    colour = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3)).astype(np.float32)
    # Keras rounds the first weight of ITU-R 601 to .2989; with it the two must agree closely.
    luma = (colour @ [0.2989, 0.587, 0.114])[..., None].repeat(3, axis=-1) / 0.9999
    expected = np.asarray(model(luma.astype(np.float32)))
    assert np.allclose(model(colour), expected, atol=1e-3 * np.abs(expected).max())
    red = colour * [1, 0, 0]
    assert np.abs(model(red.astype(np.float32)) - expected).max() > 1e-2 * np.abs(expected).max()


def test_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match="'resnet81'.*'resnet18'"):
        registry.resolve("resnet81")


# EfficientNet-Lite0 --------------------------------------------------------------------------

#: Five best classes and their logits for two photographs, [100:324, 200:424] of scikit-learn's, by
#: PyTorch 2.13 and efficientnet_lite_pytorch 0.1.0 on the same checkpoint.
PYTORCH = {
    "china.jpg": {698: 7.15874, 663: 6.98221, 449: 6.24416, 442: 5.82292, 975: 5.20591},
    "flower.jpg": {619: 7.17046, 985: 6.28046, 108: 5.65795, 996: 5.00546, 117: 4.92059},
}


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    model = registry.build("efficientnet_lite0", (224, 224, 3), 1000, dropout=0.2)
    registry.load_imagenet("efficientnet_lite0", model)
    return model


@pytest.mark.parametrize("name", PYTORCH)
def test_lite0_answers_as_in_pytorch(lite0, name):
    photograph = load_sample_image(name)[100:324, 200:424]
    logits = np.asarray(lite0(photograph[None].astype(np.float32)))[0]
    best = logits.argsort()[::-1][:5].tolist()
    assert best == list(PYTORCH[name])
    assert logits[best] == pytest.approx(list(PYTORCH[name].values()), abs=1e-4)


def test_lite0_knows_the_whole_photographs(lite0):
    """A palace, a monastery or a bell cote; a daisy (985 of ImageNet's classes)."""
    best = {}
    for name in PYTORCH:
        photograph = Image.fromarray(load_sample_image(name)).resize((224, 224))
        best[name] = int(np.asarray(lite0(np.asarray(photograph, np.float32)[None])).argmax())
    assert best["china.jpg"] in (442, 483, 663, 698) and best["flower.jpg"] == 985


def lite0_parameters(stages: int) -> int:
    """Trainable ones of the stem and the first stages, layer by layer."""
    channels, total = 32, 3 * 3 * 3 * 32 + 2 * 32
    for repeats, kernel, expansion, out in (
        (1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192),
        (1, 3, 6, 320),
    )[:stages]:  # fmt: skip
        for _ in range(repeats):
            inner = channels * expansion
            total += (channels * inner + 2 * inner) * (expansion > 1)
            total += kernel * kernel * inner + 2 * inner + inner * out + 2 * out
            channels = out
    return total


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def test_lite0_parameters(lite0):
    """4,652,008 as the TensorFlow TPU repository's 4.7 million."""
    expected = lite0_parameters(7) + 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert trainable(lite0) == expected == 4_652_008


def test_fewer_stages_are_the_beginning_of_the_whole_net(lite0):
    model = registry.build("efficientnet_lite0", (224, 224, 3), 7, stages=6)
    assert trainable(model) == lite0_parameters(6) + 192 * 7 + 7
    registry.load_imagenet("efficientnet_lite0", model)
    photograph = load_sample_image("flower.jpg")[None, 100:324, 200:424].astype(np.float32)
    nets = (keras.Model(m.input, m.get_layer("stage6_block4_add").output) for m in (model, lite0))
    ours, whole = (np.asarray(net(photograph)) for net in nets)
    assert np.allclose(ours, whole, atol=1e-4)
    features = keras.Model(model.input, model.get_layer("embedding").output)(photograph)
    assert np.allclose(features, ours.mean(axis=(1, 2)), atol=1e-4)


def test_imagenet_weights_leave_another_head_alone(lite0):
    model = registry.build("efficientnet_lite0", (64, 64, 3), 7, grey=True)
    head = model.get_layer("logits").kernel.numpy()
    registry.load_imagenet("efficientnet_lite0", model)
    assert (model.get_layer("logits").kernel.numpy() == head).all()
    name = "stage3_block2_depthwise"
    assert (model.get_layer(name).kernel.numpy() == lite0.get_layer(name).kernel.numpy()).all()


def test_options_that_an_architecture_does_not_have_are_refused():
    assert registry.options("efficientnet_lite0", Settings(dropout=0.3)) == {
        "dropout": 0.3, "head": (), "stages": 7, "stochastic_depth": 0.0,
    }  # fmt: skip
    with pytest.raises(UserError, match="--width 32: --arch efficientnet_lite0 has no such option"):
        registry.options("efficientnet_lite0", Settings(width=32))
    with pytest.raises(UserError, match="none for --arch resnet18 .only for efficientnet_lite0"):
        registry.check_imagenet("resnet18")


def test_bfloat16_gradients_of_tiny_pictures_are_those_of_float32():
    exact, rounded = (_last_stage_gradient(p) for p in ("float32", "mixed_bfloat16"))
    assert np.linalg.norm(rounded - exact) < 0.1 * np.linalg.norm(exact)


def _last_stage_gradient(policy):
    # At 16 pixels the last stage strides over one pixel, where oneDNN leaves taps unwritten.
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)), tf.float32)
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = registry.build("resnet18", (16, 16, 3), 8, width=32, dropout=0.0)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    (kernel,) = model.get_layer("stage4_block1_conv1").trainable_variables

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(images, training=False)))
        return tape.gradient(loss, kernel.value)

    for _ in range(5):
        garbage = tf.fill(kernel.shape, tf.constant(np.nan, tf.bfloat16))
        del garbage
        values = gradient().numpy()
        # Of a 3x3 kernel on one pixel only the tap in the middle sees anything.
        assert np.count_nonzero(values.any(axis=(2, 3))) == 1
    return values
