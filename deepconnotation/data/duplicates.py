"""Pictures that are the same, or nearly: perceptual hash, confirmed by the pixels.

A 64-bit perceptual hash finds candidates cheaply, but aligned grey faces of different people are
often as close as two copies of one picture. So a pair counts only when the two pictures, reduced
to 32x32 grey, also differ little.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 32
MAX_BITS = 8  # of 64 that may differ between candidates
MAX_DIFFERENCE = 8.0  # mean absolute grey levels between two thumbnails
_BLOCK = 1024


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Reduce a picture to what hash and comparison look at.

    Args:
        pixels: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (32, 32), ITU-R 601 luma.
    """
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def perceptual_hash(grey: np.ndarray) -> str:
    """Return the 64-bit DCT hash as 16 hexadecimal digits (the `phash` of ImageHash).

    Args:
        grey: uint8 (32, 32), as `thumbnail` makes it.
    """
    low = dctn(grey.astype(np.float64), type=2)[:8, :8]
    bits = low > np.median(low)
    return np.packbits(bits.ravel()).tobytes().hex()


def near_pairs(hashes: np.ndarray, thumbnail_of: Callable[[int], np.ndarray]) -> np.ndarray:
    """Find all pairs of nearly equal pictures.

    Args:
        hashes: uint64 (n,).
        thumbnail_of: index of a picture -> its uint8 (32, 32) thumbnail; only called for pictures
            whose hash is close to another's.

    Returns:
        int64 (pairs, 2), each with first index < second.
    """
    thumbnail_of = lru_cache(maxsize=4096)(thumbnail_of)

    def difference(a: int, b: int) -> float:
        return float(np.abs(thumbnail_of(a).astype(np.int16) - thumbnail_of(b)).mean())

    pairs = [(a, b) for a, b in _candidates(hashes) if difference(a, b) <= MAX_DIFFERENCE]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _candidates(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, None]
        bits = np.bitwise_count(block ^ hashes[None, start:])
        for first, second in np.argwhere(bits <= MAX_BITS):
            if first < second:
                yield int(first) + start, int(second) + start


def join_groups(groups: list[str], pairs: np.ndarray) -> np.ndarray:
    """Join groups that share a pair: what may not cross splits.

    Args:
        groups: the group of each of n pictures; "" is a group of its own.
        pairs: int (pairs, 2), indices of pictures that belong together.

    Returns:
        int (n,), a cluster number a picture.
    """
    n = len(groups)
    named = {g: i for i, g in enumerate(dict.fromkeys(g for g in groups if g))}
    # A node a picture, then a node a named group.
    member = np.array([(i, n + named[g]) for i, g in enumerate(groups) if g]).reshape(-1, 2)
    edges = np.concatenate([member, pairs]).astype(np.int64)
    size = n + len(named)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1][:n]
