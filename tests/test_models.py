"""Architectures against the papers' structure and parameter counts."""

import subprocess
import sys

import numpy as np
import pytest

from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.models import registry

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


@pytest.mark.parametrize("grey", [False, True])
def test_round_trip_in_a_fresh_process(tmp_path, grey):
    model = registry.build("resnet18", (16, 16, 3), 5, width=4, stem="3x3", grey=grey)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8)
    expected = np.asarray(model(pixels))
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", pixels)
    code = (
        "import sys, numpy as np\n"
        "from deepconnotation.backend import keras\n"
        "m = keras.saving.load_model(sys.argv[1] + '/m.keras', safe_mode=True)\n"
        "np.save(sys.argv[1] + '/y.npy', m(np.load(sys.argv[1] + '/x.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert np.allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_logits_are_float32_under_every_policy(precision):
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        model = registry.build("resnet50", (16, 16, 3), 7, width=4)
        logits = model(np.zeros((2, 16, 16, 3), np.uint8))
        assert logits.dtype == "float32" and logits.shape == (2, 7)
        assert model.get_layer("stage2_block1_conv1").compute_dtype == precision[-8:].lstrip("_")
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match="'resnet81'.*'resnet18'"):
        registry.resolve("resnet81")
