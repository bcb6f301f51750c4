"""Batch normalisation at once is Keras' batch normalisation."""

import zipfile

import numpy as np
import pytest

from deepconnotation import run
from deepconnotation.backend import keras, tf
from deepconnotation.models import registry
from deepconnotation.models.fused import FusedBatchNormalization, fuse


def trained(fused: bool, trainable: bool = True):
    """Return outputs, gradients and moving statistics after two steps on one picture's places."""
    inputs = keras.Input((5, 4, 3))
    norm = keras.layers.BatchNormalization(momentum=0.9)
    norm.trainable = trainable
    model = keras.Model(inputs, norm(inputs))
    norm.gamma.assign([1.5, 0.5, 2.0])
    norm.beta.assign([0.1, -0.2, 0.3])
    if fused:
        fuse(model)
        assert type(norm) is FusedBatchNormalization
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2):
        x = tf.constant(rng.normal(3, 2, (6, 5, 4, 3)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(tf.sin(y))
        found += [y, *tape.gradient(loss, [x, norm.gamma.value, norm.beta.value])]
    found += [norm.moving_mean, norm.moving_variance, model(x, training=False)]
    return [np.asarray(each) for each in found]


@pytest.mark.parametrize("trainable", [True, False])
def test_outputs_gradients_and_statistics_are_keras_s(trainable):
    for ours, theirs in zip(trained(True, trainable), trained(False, trainable), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_saved_model_has_keras_s_own_layers(tmp_path):
    model = registry.build("resnet18", (32, 32, 3), 8, width=8)
    fuse(model)
    fused = [layer for layer in model.layers if type(layer) is FusedBatchNormalization]
    assert len(fused) == 17  # one after the stem, two a block but for the first's, one at the end
    run.save_model(model, tmp_path / "model.keras")
    assert all(type(layer) is FusedBatchNormalization for layer in fused)
    config = zipfile.ZipFile(tmp_path / "model.keras").read("config.json").decode()
    assert "Fused" not in config and "deepconnotation" not in config
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    assert np.array_equal(loaded(images), model(images))


def test_what_it_cannot_do_is_left_to_keras():
    inputs = keras.Input((7,))
    x = keras.layers.BatchNormalization()(inputs)
    x = keras.layers.Reshape((7, 1, 1))(x)
    x = keras.layers.BatchNormalization(scale=False)(x)
    model = keras.Model(inputs, x)
    fuse(model)
    assert not any(type(layer) is FusedBatchNormalization for layer in model.layers)
