"""Random changes to training pictures; never in the saved model, never outside training.

Every draw is a function of (seed, epoch, step), so that a resumed run repeats it.
"""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures are changed; zero or False leaves a change out.

    Attributes:
        flip: mirror left and right, half of the time.
        shift: largest move, as a share of height and width.
        rotate: largest turn, degrees.
        zoom: largest enlargement or reduction, as a share.
        cutout: side of a square that is set to the mid grey, as a share of the height
            (DeVries and Taylor 2017, arXiv 1708.04552).
        contrast: largest change of contrast and of brightness, as a share.
    """

    flip: bool = False
    shift: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    cutout: float = 0.0
    contrast: float = 0.0


def apply(images: tf.Tensor, settings: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Change each picture of a batch on its own.

    Args:
        images: uint8 (batch, H, W, 3).
        settings: what to do.
        seed: int (2,), as tf.random.stateless_uniform takes it.

    Returns:
        float32 (batch, H, W, 3), 0..255.
    """
    images = tf.cast(images, tf.float32)
    seeds = tf.unstack(tf.random.split(seed, 8))
    if settings.flip or settings.shift or settings.rotate or settings.zoom:
        images = _move(images, settings, seeds)
    if settings.contrast:
        images = _contrast(images, settings.contrast, seeds[5:7])
    if settings.cutout:
        images = _cutout(images, settings.cutout, seeds[7])
    return images


def _uniform(shape, limit: float, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, -limit, limit)


def _move(images: tf.Tensor, settings: Augmentation, seeds: list[tf.Tensor]) -> tf.Tensor:
    """Flip, shift, turn and zoom as one affine map, so that pixels are interpolated once."""
    count = tf.shape(images)[0]
    height, width = images.shape[1:3]
    mirror = tf.sign(_uniform((count,), 1.0, seeds[0])) if settings.flip else tf.ones((count,))
    angle = _uniform((count,), settings.rotate, seeds[1]) * (3.141592653589793 / 180)
    scale = tf.exp(_uniform((count,), settings.zoom, seeds[2]))
    dx = _uniform((count,), settings.shift, seeds[3]) * width
    dy = _uniform((count,), settings.shift, seeds[4]) * height
    # Output pixel (x, y), counted from the centre, takes its value from (a x + b y, c x + d y).
    a, b = tf.cos(angle) * scale * mirror, -tf.sin(angle) * scale
    c, d = tf.sin(angle) * scale * mirror, tf.cos(angle) * scale
    cx, cy = (width - 1) / 2, (height - 1) / 2
    x0 = cx + dx - a * cx - b * cy
    y0 = cy + dy - c * cx - d * cy
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, x0, c, d, y0, zero, zero], axis=1),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _contrast(images: tf.Tensor, limit: float, seeds: list[tf.Tensor]) -> tf.Tensor:
    shape = (tf.shape(images)[0], 1, 1, 1)
    factor = 1 + _uniform(shape, limit, seeds[0])
    offset = 128 * _uniform(shape, limit, seeds[1])
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value((images - mean) * factor + mean + offset, 0.0, 255.0)


def _cutout(images: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    count = tf.shape(images)[0]
    height, width = images.shape[1:3]
    centre = tf.random.stateless_uniform((2, count, 1), seed)
    half = share * height / 2
    rows = tf.abs(tf.range(height, dtype=tf.float32) + 0.5 - centre[0] * height) < half
    columns = tf.abs(tf.range(width, dtype=tf.float32) + 0.5 - centre[1] * width) < half
    hole = (rows[:, :, None] & columns[:, None, :])[..., None]
    return tf.where(hole, 127.5, images)


def mixup(images: tf.Tensor, targets: tf.Tensor, alpha: float, seed: tf.Tensor):
    """Blend every picture and its target with another of the batch (Zhang 2018, arXiv 1710.09412).

    Args:
        images: float32 (batch, H, W, 3).
        targets: float32 (batch, classes), rows sum to 1.
        alpha: of the Beta(alpha, alpha) distribution the share is drawn from; above 0.
        seed: int (2,).

    Returns:
        Blended images and targets of the same shapes.
    """
    first, second = tf.unstack(tf.random.split(seed, 2))
    draws = tf.random.stateless_gamma((2, tf.shape(images)[0]), first, alpha)
    share = tf.maximum(draws[0], 1e-20) / tf.maximum(draws[0] + draws[1], 2e-20)
    share = tf.maximum(share, 1 - share)  # the picture itself keeps the larger part
    order = tf.argsort(tf.random.stateless_uniform((tf.shape(images)[0],), second))
    s = share[:, None, None, None]
    mixed = images * s + tf.gather(images, order) * (1 - s)
    s = share[:, None]
    return mixed, targets * s + tf.gather(targets, order) * (1 - s)


def cutmix(images: tf.Tensor, targets: tf.Tensor, alpha: float, seed: tf.Tensor):
    """Paste a box of another picture into each one, and mix the targets by its area.

    CutMix of Yun et al., ICCV 2019, arXiv 1905.04899. A box that would leave the picture is cut at
    its edges, and its target's share is what is left of it.

    Args:
        images: float32 (batch, H, W, 3).
        targets: float32 (batch, classes), rows sum to 1.
        alpha: of the Beta(alpha, alpha) distribution the box's share is drawn from; above 0.
        seed: int (2,).

    Returns:
        Mixed images and targets of the same shapes.
    """
    count = tf.shape(images)[0]
    height, width = images.shape[1:3]
    first, second, third = tf.unstack(tf.random.split(seed, 3))
    draws = tf.maximum(tf.random.stateless_gamma((2, count), first, alpha), 1e-20)
    half = tf.sqrt(draws[0] / (draws[0] + draws[1]))[:, None] / 2
    centre = tf.random.stateless_uniform((2, count, 1), second)
    rows = tf.abs((tf.range(height, dtype=tf.float32) + 0.5) / height - centre[0]) < half
    columns = tf.abs((tf.range(width, dtype=tf.float32) + 0.5) / width - centre[1]) < half
    box = rows[:, :, None] & columns[:, None, :]
    order = tf.argsort(tf.random.stateless_uniform((count,), third))
    share = tf.reduce_mean(tf.cast(box, tf.float32), axis=(1, 2))[:, None]
    mixed = tf.where(box[..., None], tf.gather(images, order), images)
    return mixed, targets * (1 - share) + tf.gather(targets, order) * share
