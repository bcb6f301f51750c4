"""Every architecture of the registry: size, shapes, dtypes, round trip, one step of training."""

import subprocess
import sys
from functools import cache
from importlib import import_module

import numpy as np
import pytest

from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.models import heads, registry

#: name -> (side of the picture, classes, options, parameters, where that figure is from)
PARAMETERS = {
    "small_cnn": (50, 8, {}, 245_592, "facts E, the project's own summary"),
    # 3x3 kernels with biases, four figures a channel under batch normalisation, 14x14 left of 256
    "vgg": (256, 6, {}, 1_792 + 73_856 + 295_168 + 590_080 + 4 * 704
            + (14 * 14 * 256 + 1) * 128 + 4 * 128 + 129 * 64 + 4 * 64 + 65 * 6, "facts D, by hand"),
    "vgg16": (224, 1000, {"head": (4096, 4096), "pooling": "flatten"}, 138_357_544, "keras.io"),
    "resnet50_imagenet": (224, 1000, {}, 25_636_712, "keras.io"),
    "inception_v3": (299, 1000, {}, 23_851_784, "keras.io"),
    "mobilenet_v2": (224, 1000, {}, 3_538_984, "keras.io"),
    "efficientnet_b0": (224, 1000, {}, 5_330_571, "keras.io"),
    # four gates of an LSTM of 512 inputs and 512 outputs
    "show_and_tell": (299, 8, {}, 21_802_784 + 2048 * 512 + 4 * 512 * (1024 + 1) + 1025 * 8,
                      "keras.io's InceptionV3 without its top, and facts B"),
}  # fmt: skip
#: These are counted from their papers in test_models.py and test_fractal.py.
ELSEWHERE = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "fractal",
             "efficientnet_lite0"}  # fmt: skip
NARROW = {"width": 4}
#: the rest is made of the same layers as these
KINDS = ("resnet18", "fractal", "small_cnn", "vgg", "efficientnet_lite0", "efficientnet_b0",
         "show_and_tell")  # fmt: skip
#: of many layers; a step takes up to half a minute in bfloat16 where the processor has none
LONG = ("efficientnet_b0", "show_and_tell")
REST = [arch for arch in registry.ARCHITECTURES if arch not in KINDS]
#: the resnet50 again, deeper
DEEPER = ("resnet101", "resnet152")


def small(arch: str, **options) -> keras.Model:
    """The smallest model of an architecture, from pictures to 5 logits."""
    keras.utils.set_random_seed(0)
    if "width" in registry.OPTIONS[registry.ARCHITECTURES[arch]]:
        options |= NARROW
    side = max(registry.SMALLEST.get(arch, 32), 32)
    return registry.build(arch, (side, side, 3), 5, **options)


#: What takes long is to build them: tests that change no weight share a model.
shared = cache(small)


def pixels(model: keras.Model, batch: int = 2) -> np.ndarray:
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_every_architecture_is_counted():
    assert {*PARAMETERS} | ELSEWHERE == {*registry.ARCHITECTURES}


@pytest.mark.parametrize("arch", PARAMETERS)
def test_parameters(arch):
    side, classes, options, expected, _ = PARAMETERS[arch]
    with keras.StatelessScope():  # sizes alone: no weights are drawn
        model = registry.build(arch, (side, side, 3), classes, **options)
    assert model.count_params() == expected
    family = import_module(f"deepconnotation.models.{registry.ARCHITECTURES[arch]}")
    head = 1025 * 8 if arch == "show_and_tell" else 0  # not counted there
    assert f"{expected - head:,}" in " ".join(family.__doc__.split())


@pytest.mark.parametrize(
    ("arch", "policy"),
    [(arch, "float32") for arch in registry.ARCHITECTURES if arch not in DEEPER]
    + [pytest.param(arch, "float32", marks=pytest.mark.slow) for arch in DEEPER]
    + [(arch, "mixed_bfloat16") for arch in KINDS if arch not in LONG]
    + [pytest.param(arch, "mixed_bfloat16", marks=pytest.mark.slow) for arch in (*REST, *LONG)],
)
def test_shapes_dtypes_and_a_step(arch, policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = shared(arch) if policy == "float32" else small(arch)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    images, labels = pixels(model), tf.constant([0, 1])
    assert model.output_shape == (None, 5) and model.input_shape[-1] == 3
    assert np.allclose(model(images), model(images.astype(np.float32)), atol=1e-3)
    assert len(model.get_layer("embedding").output.shape) == 2
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    assert logits.dtype == tf.float32 and logits.shape == (2, 5)
    gradients = tape.gradient(loss, model.trainable_variables)
    missing = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True)
               if g is None]  # fmt: skip
    assert not missing or arch == "fractal"  # whose dropped paths are not computed
    for gradient in gradients:
        assert gradient is None or np.isfinite(gradient).all()
    before = [w.numpy() for w in model.weights]
    assert model(images[:1]).shape == (1, 5)
    assert all((a == b.numpy()).all() for a, b in zip(before, model.weights, strict=True))


@pytest.mark.parametrize(
    "names",
    [[arch for arch in KINDS if arch not in LONG],
     pytest.param([*REST, *LONG], marks=pytest.mark.slow)],
    ids=["kinds", "rest"],
)
def test_round_trip_in_a_fresh_process(tmp_path, names):
    """Safe mode, and no custom_objects: the package's own classes are looked up by name."""
    expected = {}
    # one of each kind
    grey = {"resnet18", "fractal", "efficientnet_lite0", "mobilenet_v2"}.intersection(names)
    models = {name: shared(name) for name in names}
    models |= {f"{name}-grey": small(name, grey=True) for name in grey}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", pixels(model))
        expected[name] = np.asarray(model(pixels(model)))
    code = (
        "import sys, numpy as np, pathlib\n"
        "from deepconnotation.models import layers\n"
        "import keras\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    model = keras.saving.load_model(path, safe_mode=True)\n"
        "    np.save(path.with_suffix('.out.npy'), model(np.load(path.with_suffix('.npy'))))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    for name, values in expected.items():
        got = np.load(tmp_path / f"{name}.out.npy")
        assert np.allclose(got, values, atol=1e-4 * max(np.abs(values).max(), 1)), name


@pytest.mark.parametrize(
    ("arch", "until", "last"),
    [("resnet18", "stage2", "stage2_block2_add"), ("vgg16", "block3", "block3_pool"),
     ("efficientnet_b0", "block2", "block2b_add"), ("inception_v3", "mixed3", "mixed3"),
     ("mobilenet_v2", "block_1", "block_1_project_BN")],
)  # fmt: skip
def test_a_block_is_frozen_to_its_last_layer(arch, until, last):
    model = small(arch)
    heads.freeze_until(model, until)
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    names = [layer.name for layer in model.layers]
    assert frozen == names[: names.index(last) + 1]


def test_a_block_that_is_not_there_is_told_the_nearest():
    with pytest.raises(UserError, match="'stage9': no such layer; the nearest is 'stage[1-4]'"):
        heads.freeze_until(shared("resnet18"), "stage9")
