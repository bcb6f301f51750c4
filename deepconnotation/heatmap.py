"""Where in a picture a model finds the reason for its answer."""

import itertools
from collections.abc import Callable

import numpy as np
from matplotlib import colormaps
from PIL import Image
from scipy.stats import spearmanr

from deepconnotation.answer import Answer
from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.models.layers import finalize

SMALLEST = 4  # sides of the maps that Grad-CAM looks at, where the net has such maps
GRID, PATCH = 8, 0.25  # places a side, and the patch's share of it, of occlusion
SHOWN = 0.5  # opacity of a map over its picture

Maps = Callable[[np.ndarray, np.ndarray], np.ndarray]


def grad_cam(model: keras.Model) -> Maps:
    """Return a function from pictures and classes to heatmaps.

    Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391): the last feature maps that are at
    least 4x4, weighted by the mean gradient of the class's logit, their sum where it is positive.
    An ensemble's map is the mean of its members'.

    Args:
        model: from (batch, H, W, 3), 0..255, to logits (batch, classes), by way of maps.

    Returns:
        Function from uint8 or float (n, H, W, 3) and int (n,) to float32 (n, H, W), 0 to 1; a map
        without a positive place is 0.

    Raises:
        UserError: when the model has no maps.
    """
    members = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if members:
        return _mean_of([(grad_cam(member), member.input_shape[1:3]) for member in members])
    inner = keras.Model(model.input, [_maps_of(model).output, model.outputs[0]])

    signature = [tf.TensorSpec(model.input_shape, tf.float32), tf.TensorSpec((None,), tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def raw(images, classes):
        with tf.GradientTape() as tape:
            maps, logits = inner(images, training=False)
            tape.watch(maps)
            wanted = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
        gradient = tf.cast(tape.gradient(wanted, maps), tf.float32)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        found = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
        return tf.image.resize(found[..., None], tf.shape(images)[1:3], "bicubic")[..., 0]

    def of(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        pixels = tf.cast(np.asarray(images), tf.float32)
        found = np.maximum(raw(pixels, tf.constant(classes, tf.int32)).numpy(), 0)
        return found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-12)

    return of


def _mean_of(members: list[tuple[Maps, tuple[int, int]]]) -> Maps:
    """Return the mean of several functions' heatmaps, each asked at its own size of pictures."""

    def of(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        found = [maps(tf.image.resize(images, size), classes)[..., None] for maps, size in members]
        whole = [tf.image.resize(each, images.shape[1:3])[..., 0] for each in found]
        return np.mean(whole, axis=0)

    return of


def _maps_of(model: keras.Model) -> keras.Layer:
    """Return the last layer whose maps are large enough, or else that with the largest."""
    single = [layer for layer in model.layers if not isinstance(layer.output, (list, tuple))]
    found = [layer for layer in single
             if len(layer.output.shape) == 4 and layer.output.shape[-1] > 3]  # fmt: skip
    if not found:
        raise UserError(f"{model.name} has no feature maps to explain its answers by")
    large = [layer for layer in found if min(layer.output.shape[1:3]) >= SMALLEST]
    return large[-1] if large else max(found, key=lambda layer: min(layer.output.shape[1:3]))


def occlusion(answer: Callable[[tf.Tensor], Answer], image: np.ndarray, label: int) -> np.ndarray:
    """Return how much a class's probability falls when a part of the picture is covered.

    Zeiler and Fergus, ECCV 2014, arXiv 1311.2901, with a patch in the picture's mean colour. It
    needs no gradient, so it checks Grad-CAM.

    Args:
        answer: as `answer.answers` returns it.
        image: uint8 (H, W, 3).
        label: index of the class.

    Returns:
        float32 (GRID, GRID), differences of probabilities; negative where covering helps.
    """
    covered = np.repeat(image[None], GRID**2 + 1, axis=0)
    colour = image.reshape(-1, 3).mean(axis=0).round()
    tall, wide = (_spans(side) for side in image.shape[:2])
    for place, (rows, columns) in enumerate(itertools.product(tall, wide)):
        covered[place, rows, columns] = colour
    p = np.exp(answer(covered)[0].numpy()[:, label])
    return (p[-1] - p[:-1]).reshape(GRID, GRID).astype(np.float32)


def _spans(side: int) -> list[slice]:
    """Return where patches lie along a side: around the centres of GRID equal parts."""
    centres = (np.arange(GRID) + 0.5) * side / GRID
    starts, ends = (centres + sign * side * PATCH / 2 for sign in (-1, 1))
    return [slice(max(round(a), 0), round(b)) for a, b in zip(starts, ends, strict=True)]


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps, of any sizes; 0 where one is constant.

    Args:
        a: float (height, width).
        b: float (height, width).
    """
    pair = [_resized(each, (GRID, GRID)).ravel() for each in (a, b)]
    if min(np.ptp(each) for each in pair) == 0:
        return 0.0
    return float(spearmanr(*pair).statistic)


def shuffled(model: keras.Model, seed: int = 0) -> keras.Model:
    """Return a copy whose weights are each put into another order: it has learned nothing.

    For the sanity check of Adebayo et al., NeurIPS 2018, arXiv 1810.03292: a heatmap that stays as
    it was with such weights shows edges, not reasons.
    """
    copy = keras.models.clone_model(model)
    rng = np.random.default_rng(seed)
    copy.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in model.get_weights()])
    return finalize(copy)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def over(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a picture with a map laid over it, uint8 (H, W, 3).

    Args:
        image: uint8 (H, W, 3).
        values: float, a map of any size; its largest value is drawn brightest, 0 and less darkest.
    """
    scaled = np.maximum(_resized(values, image.shape[:2]), 0)
    scaled = scaled / max(scaled.max(), 1e-12)
    colours = colormaps["inferno"](scaled)[..., :3] * 255
    return ((1 - SHOWN) * image + SHOWN * colours).round().astype(np.uint8)
