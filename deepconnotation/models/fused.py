"""Batch normalisation in one pass while a model is trained.

Keras 3 computes it from single operations in float32, which costs a ResNet-18 of 3x3 stem a quarter
of a training step on a processor; TensorFlow has one operation for it, and one for its gradient.
Saved models hold Keras' own layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from deepconnotation.backend import keras, tf

Plain = keras.layers.BatchNormalization


class FusedBatchNormalization(Plain):
    """`keras.layers.BatchNormalization` over (batch, H, W, channels), computed at once."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask=None) -> tf.Tensor:
        """Normalise by the batch's statistics and take them into the moving ones, in training."""
        if not training or not self.trainable or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=[], variance=[],
            epsilon=self.epsilon, is_training=True,
        )  # fmt: skip
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        variance *= (count - 1) / count  # Keras' is that of the batch, not of what it is drawn from
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return y


def fuse(model: keras.Model) -> None:
    """Let a model's batch normalisations be computed at once, where they can be."""
    for layer in _norms(model, Plain):
        whole = layer.gamma is not None and layer.beta is not None and not layer.synchronized
        if whole and layer.axis in (-1, 3) and layer.input_spec.ndim == 4:
            layer.__class__ = FusedBatchNormalization


@contextmanager
def plain(model: keras.Model) -> Iterator[None]:
    """Give a model Keras' own layers for as long as it is being saved."""
    fused = list(_norms(model, FusedBatchNormalization))
    for layer in fused:
        layer.__class__ = Plain
    try:
        yield
    finally:
        for layer in fused:
            layer.__class__ = FusedBatchNormalization


def _norms(model: keras.Model, kind: type) -> Iterator[keras.Layer]:
    return (layer for layer in model._flatten_layers() if type(layer) is kind)
