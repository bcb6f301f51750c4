"""Pictures that are the same, or nearly: perceptual hash, confirmed by the pixels.

A 64-bit perceptual hash finds candidates cheaply, but aligned grey faces of different people are
often as close as two copies of one picture. So a pair counts only when the two pictures, reduced
to 32x32 grey, also differ little.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 32
MAX_BITS = 8  # of 64 that may differ between candidates
MAX_DIFFERENCE = 8.0  # mean absolute grey levels between two thumbnails
_BLOCK = 32  # rows compared at once; small enough for the processor's cache
_PAIRS = 4096  # whose thumbnails are compared at once, so that memory stays small


def thumbnail(image: Image.Image) -> Image.Image:
    """Reduce a picture to what hash and comparison look at.

    Args:
        image: of any size, mode "RGB" or "L".

    Returns:
        32x32, mode "L" (ITU-R 601 luma); averaged over whole pixels as far as that goes, which is
        twenty times as fast as Lanczos all the way.
    """
    grey = image if image.mode == "L" else image.convert("L")
    return grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=1.0)


def perceptual_hashes(thumbnails: Sequence[Image.Image]) -> list[str]:
    """Return 64-bit DCT hashes as 16 hexadecimal digits each (the `phash` of ImageHash).

    Args:
        thumbnails: as `thumbnail` makes them; many at once, since one at a time costs ten times as
            much.
    """
    if not thumbnails:
        return []
    joined = np.frombuffer(b"".join(t.tobytes() for t in thumbnails), np.uint8)
    greys = joined.reshape(-1, THUMBNAIL, THUMBNAIL).astype(np.float64)
    low = dctn(greys, type=2, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


def near_pairs(
    hashes: np.ndarray,
    groups: Sequence[str],
    thumbnails_of: Callable[[np.ndarray], Iterable[Image.Image]],
) -> np.ndarray:
    """Find the pairs of nearly equal pictures that no common group holds together already.

    Args:
        hashes: uint64 (n,).
        groups: the group of each picture; "" is a group of its own.
        thumbnails_of: indices of pictures -> their thumbnails; only asked for pictures whose hash
            is close to another's.

    Returns:
        int64 (pairs, 2), each with first index < second.
    """
    pairs = _candidates(hashes)
    group = np.asarray(groups, object)[pairs]
    pairs = pairs[(group[:, 0] != group[:, 1]) | (group[:, 0] == "")]
    asked, places = np.unique(pairs, return_inverse=True)
    small = np.zeros((len(asked), THUMBNAIL, THUMBNAIL), np.uint8)
    for row, image in zip(small, thumbnails_of(asked), strict=True):
        row[:] = image
    places = places.reshape(-1, 2)
    parts = [_differences(small, places[k : k + _PAIRS]) for k in range(0, len(places), _PAIRS)]
    return pairs[np.concatenate([np.zeros(0), *parts]) <= MAX_DIFFERENCE]


def _differences(small: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return float64 (pairs,), mean absolute grey levels between two thumbnails."""
    first, second = small[places.T].astype(np.int16)
    return np.abs(first - second).mean(axis=(1, 2))


def _candidates(hashes: np.ndarray) -> np.ndarray:
    """Return int64 (pairs, 2): all pairs whose hashes are close."""

    def within(start: int) -> np.ndarray:
        block = hashes[start : start + _BLOCK, None]
        bits = np.bitwise_count(block ^ hashes[None, start:])
        near = np.flatnonzero(bits <= MAX_BITS)  # many times as fast as argwhere
        return np.stack(np.unravel_index(near, bits.shape), axis=1) + start

    with ThreadPoolExecutor() as pool:  # NumPy lets other threads run meanwhile
        pairs = np.concatenate(list(pool.map(within, range(0, max(len(hashes), 1), _BLOCK))))
    return pairs[pairs[:, 0] < pairs[:, 1]]


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
