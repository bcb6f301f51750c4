"""Heatmaps: formulas by hand, the sanity check, and the page."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr
from test_registry import pixels, small
from tools import command

from deepconnotation import ensemble, heatmap
from deepconnotation.answer import answers
from deepconnotation.backend import keras


def test_grad_cam_by_hand():
    """Maps that are copies of the colours, and a linear layer on their means: d logit / d map is
    the layer's weight over the number of pixels, so the heatmap is known."""
    inputs = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 1, use_bias=False, name="maps")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps)))
    colours = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]], np.float32)
    head = np.array([[1, 0], [-2, 1], [0, 1], [0.5, -0.5]], np.float32)
    model.get_layer("maps").set_weights([colours[None, None]])
    model.layers[-1].set_weights([head, np.zeros(2, np.float32)])
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    found = heatmap.grad_cam(model)(images, [0, 1])
    for image, label, values in zip(images, (0, 1), found, strict=True):
        expected = np.maximum(image.astype(float) @ colours @ head[:, label], 0)
        assert np.allclose(values, expected / expected.max(), atol=1e-5)
    dark = heatmap.grad_cam(model)(np.zeros((1, 8, 8, 3), np.uint8), [0])
    assert (dark == 0).all()  # nothing speaks for it, and nothing is divided by 0


@pytest.mark.parametrize("arch", [
    "resnet18", "fractal", "small_cnn", "vgg", "efficientnet_lite0",
    pytest.param("show_and_tell", marks=pytest.mark.slow),
])  # fmt: skip
def test_every_kind_of_model_is_explained(arch):
    model = small(arch)
    images = pixels(model, 1)
    values = heatmap.grad_cam(model)(images, [0])[0]
    assert values.shape == images.shape[1:3] and values.dtype == np.float32
    assert 0 <= values.min() and values.max() in (0, pytest.approx(1))


def test_an_ensembles_map_is_the_mean_of_its_members(toy_run, tmp_path):
    both = ensemble.ensemble([toy_run, toy_run], tmp_path / "both")
    images = pixels(toy_run.model, 2)
    expected = heatmap.grad_cam(toy_run.model)(images, [1, 2])
    assert np.allclose(heatmap.grad_cam(both.model)(images, [1, 2]), expected, atol=1e-5)


def test_occlusion_finds_the_only_place_that_counts():
    """A net that looks at one pixel, row 20 and column 9 of 32."""
    inputs = keras.Input((32, 32, 3))
    spot = keras.layers.Flatten()(inputs[:, 20:21, 9:10, :1] / 64.0)
    model = keras.Model(inputs, keras.layers.Concatenate()([spot, 0 * spot]))
    image = np.full((32, 32, 3), 40, np.uint8)
    image[20, 9] = 250
    found = heatmap.occlusion(answers(model, test_flip=False), image, 0)
    centres = (np.arange(8) + 0.5) * 4
    covers = (abs(centres - 20.5)[:, None] <= 4) & (abs(centres - 9.5) <= 4)
    before, after = (1 / (1 + np.exp(-value / 64)) for value in (250, image.mean().round()))
    assert np.allclose(found, np.where(covers, before - after, 0), atol=1e-5)


def test_agreement_is_a_rank_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.random((8, 8)), rng.random((8, 8))
    assert heatmap.agreement(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert heatmap.agreement(a, np.exp(a)) == pytest.approx(1)
    assert heatmap.agreement(a, np.ones((8, 8))) == 0


def test_shuffled_weights_change_the_map(toy_run):
    """The sanity check of Adebayo et al. 2018."""
    copy = heatmap.shuffled(toy_run.model)
    for learned, shuffled in zip(toy_run.model.get_weights(), copy.get_weights(), strict=True):
        assert np.array_equal(np.sort(learned.ravel()), np.sort(shuffled.ravel()))
    images, classes = pixels(toy_run.model, 8), np.arange(8)
    pairs = [heatmap.grad_cam(model)(images, classes) for model in (toy_run.model, copy)]
    assert np.mean([heatmap.agreement(a, b) for a, b in zip(*pairs, strict=True)]) < 0.5


def test_a_map_over_its_picture_by_hand():
    """Half picture, half colour: matplotlib's inferno ends in (0, 0, 4) and (252, 254.6, 164)."""
    image = np.full((6, 4, 3), 100, np.uint8)
    found = heatmap.over(image, np.repeat([[-3.0], [0.0], [0.0], [2.0]], 6, axis=1))
    assert found.shape == (6, 4, 3) and found.dtype == np.uint8
    assert (found[0] == [50, 50, 52]).all() and (found[-1] == [176, 177, 132]).all()
    nothing = heatmap.over(image, np.zeros((6, 4)))
    assert (nothing == [50, 50, 52]).all()


@pytest.mark.parametrize(("sides", "wanted"), [((8, 4, 2), 1), ((2, 2, 1), 0), ((3, 3, 3), 0),
                                               ((8, 4, 4), 2)])  # fmt: skip
def test_the_last_maps_of_four_pixels_are_looked_at(sides, wanted):
    """Or else the largest, the first of them."""
    inputs = x = keras.Input((16, 16, 3))
    for side in sides:
        x = keras.layers.Conv2D(4, x.shape[1] + 1 - side)(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    assert heatmap._maps_of(model) is model.layers[1 + wanted]


def test_pages(toy_run, toy_source, tmp_path):
    done = command("explain", toy_run.path)
    assert done.returncode == 0, done.stderr
    page = (toy_run.path / "explain.html").read_text()
    assert "Most confident right answers" in page or "Most confident errors" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page) and "<script" not in page
    strips = re.findall(r'<figure class="strip">(.*?)</figure>', page, re.DOTALL)
    rows = pd.read_csv(toy_run.path / "predictions.csv")
    right = (rows["label"] == rows["predicted"]).sum()
    assert len(strips) == min(right, 12) + min(len(rows) - right, 12)
    assert all(strip.count('alt="') == 3 for strip in strips)

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (40, 30), "red").save(pictures / "red.png")
    (pictures / "broken.jpg").write_bytes(b"<html>")
    out = tmp_path / "why.html"
    done = command("explain", toy_run.path, pictures, "--label", "Fear", "--out", out)
    assert done.returncode == 3 and "1 pictures" in done.stdout, done.stderr
    assert done.stdout.endswith("left out, with reasons there: 1\n")
    page = out.read_text()
    assert "red.png: fear" in page and "Not read" in page and "broken.jpg" in page


def test_what_cannot_be_explained(toy_run, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    for words, message in (
        (["--label", "joy"], "the run tells amusement"),
        ([tmp_path / "broken.jpg"], "no picture in .*broken.jpg"),
        ([tmp_path / "gone"], "gone"),
        (["--out", tmp_path / "broken.jpg"], "broken.jpg: expected the name of a page"),
    ):
        done = command("explain", toy_run.path, *words)
        assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
        assert len(done.stderr.splitlines()) == 1
