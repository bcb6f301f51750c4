"""From a model and pictures to answers; evaluation, prediction and training all ask here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from deepconnotation.backend import keras, tf

if TYPE_CHECKING:
    from deepconnotation.run import Run

Answer = tuple[tf.Tensor, tf.Tensor]


def outputs(model: keras.Model, images: tf.Tensor, training: bool) -> Answer:
    """Return logits (batch, classes), and valence and arousal (batch, 2); (batch, 0) where the
    model has no such head."""
    found = model(images, training=training)
    if isinstance(found, (list, tuple)):
        return found[0], found[1]
    return found, tf.zeros((tf.shape(found)[0], 0))


def answers(
    model: keras.Model, test_flip: bool, multi_label: bool = False, temperature: float = 1.0
) -> Callable[[tf.Tensor], Answer]:
    """Return a compiled function from pictures to log-probabilities, and valence and arousal.

    Args:
        model: from (batch, H, W, 3) to logits (batch, classes), and perhaps a second output.
        test_flip: average the answers for a picture and for its mirror image (as Krizhevsky,
            Sutskever and Hinton 2012 did).
        multi_label: each class has a probability of its own (a sigmoid); they do not sum to 1.
        temperature: divides the log-probabilities, see `calibration.fit_temperature`.

    Returns:
        Function from uint8 or float (batch, H, W, 3), 0..255, to float32 (batch, classes), at most
        0 (logarithms, so that a loss on them stays finite), and float32 (batch, 2) on -1 to 1, or
        (batch, 0).
    """

    def of(images: tf.Tensor) -> Answer:
        logits, affect = outputs(model, images, training=False)
        return (tf.math.log_sigmoid if multi_label else tf.nn.log_softmax)(logits), affect

    def answer(images: tf.Tensor) -> Answer:
        log_p, affect = of(images)
        if test_flip:
            mirrored, other = of(tf.reverse(images, [2]))
            both = tf.stack([log_p, mirrored])
            log_p = tf.reduce_logsumexp(both, axis=0) - tf.math.log(2.0)
            affect = (affect + other) / 2
        if temperature != 1:
            log_p = tf.nn.log_softmax(log_p / temperature)
        return log_p, affect

    return compiled(model, answer)


def compiled(model: keras.Model, function: Callable) -> Callable:
    """Return a function of a model's pictures as a graph, traced once whatever the batch.

    Args:
        model: from (batch, H, W, 3).
        function: takes float32 (batch, H, W, 3), 0..255.

    Returns:
        The same, of uint8 or float pictures.
    """
    pictures = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    traced = tf.function(function, input_signature=[pictures], autograph=False)
    return lambda images: traced(tf.cast(images, tf.float32))


def answers_of(found: "Run", model: keras.Model | None = None) -> Callable[[tf.Tensor], Answer]:
    """Return `answers` as a run gives them, or another form of its model in its place."""
    model = found.model if model is None else model
    return answers(model, found.test_flip, found.multi_label, found.temperature)
