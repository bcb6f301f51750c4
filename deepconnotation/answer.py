"""From a model and pictures to probabilities; evaluation, prediction and training all ask here."""

from collections.abc import Callable

from deepconnotation.backend import keras, tf


def log_probabilities(model: keras.Model, test_flip: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a compiled function from pictures to the logarithms of their probabilities.

    Args:
        model: from (batch, H, W, 3) to logits (batch, classes).
        test_flip: average the probabilities of a picture and of its mirror image (as Krizhevsky,
            Sutskever and Hinton 2012 did).

    Returns:
        Function from uint8 or float (batch, H, W, 3), 0..255, to float32 (batch, classes), at most
        0; logarithms, so that a loss on them stays finite.
    """

    def of(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_softmax(model(images, training=False))

    @tf.function(reduce_retracing=True)
    def answer(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        if not test_flip:
            return of(images)
        both = tf.stack([of(images), of(tf.reverse(images, [2]))])
        return tf.reduce_logsumexp(both, axis=0) - tf.math.log(2.0)

    return answer
