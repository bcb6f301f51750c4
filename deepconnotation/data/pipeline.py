"""Manifest to batches: one memory-mapped array a split, then tf.data.

An epoch's order is a function of seed and epoch alone, so a run that is resumed, even in the middle
of an epoch, sees the same batches as one that never stopped.
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepconnotation.console import UserError, file_atomic, naming, own_cache, progress
from deepconnotation.data import manifest
from deepconnotation.data.decode import Rejected, decode
from deepconnotation.emotions import numbered

#: Pixels a side. Smaller pictures are decoded faster by one thread than by several, which wait for
#: Python's lock (on two cores, 96 pixels: 9,000 against 3,500 a second; 192 pixels: 2,500, 3,500).
_THREADS_FROM = 160


@dataclass(frozen=True)
class Split:
    """One split of a prepared data set.

    Attributes:
        table: its rows of the manifest, by id.
        images: uint8 (n, height, width, 3), RGB, memory-mapped.
        labels: int64 (n,), indices into the classes.
    """

    table: pd.DataFrame
    images: np.ndarray
    labels: np.ndarray


def load(dataset: str | Path, split: str, classes: Sequence[str] | None = None) -> Split:
    """Load a split through its packed cache, which is made at the first use.

    The cache lies in DATASET/.cache under the manifest's digest, or, where that may not be written,
    as on a shared disk, in the user's own cache; deleting it is always safe.

    Args:
        dataset: folder of a prepared data set.
        split: its name.
        classes: into which labels are numbered, where some of the data set's are merged
            ("anger+fear"); None takes its own.

    Raises:
        UserError: when the split has no pictures, or a prepared picture is missing or damaged, or
            nobody knows where the cache could lie.
    """
    dataset = Path(dataset)
    table = manifest.read(dataset)
    info = manifest.read_info(dataset)
    table = table[table["split"] == split].sort_values("id").reset_index(drop=True)
    if table.empty:
        raise UserError(
            f"{dataset} has no pictures in split {split!r}; make one with deepconnotation split"
        )
    name = f"{manifest.fingerprint(dataset)[:16]}/{split}.npy"
    path = dataset / ".cache" / name
    if not path.exists() and not os.access(dataset, os.W_OK):
        path = own_cache(dataset) / name
    if not path.exists():
        _pack(dataset, table["file"].tolist(), (info.height, info.width), path)
    labels = np.array(numbered(table["label"], classes or info.classes), np.int64)
    return Split(table, np.load(path, mmap_mode="r"), labels)


def _pack(dataset: Path, files: list[str], size: tuple[int, int], path: Path) -> None:
    def pixels(name: str) -> np.ndarray:
        try:
            return decode((dataset / name).read_bytes(), size).pixels
        except (OSError, Rejected) as error:
            raise UserError(f"{dataset / name}: {error}; prepare the data set again") from None

    for stale in path.parent.parent.glob("*"):
        if stale != path.parent:
            shutil.rmtree(stale, ignore_errors=True)
    with file_atomic(path) as partial:
        packed = new_array(partial, np.uint8, (len(files), *size, 3))
        with (
            ThreadPoolExecutor() as pool,
            progress(f"{path.stem} pictures packed", len(files)) as advance,
        ):
            each = pool.map if min(size) >= _THREADS_FROM else map
            for i, picture in enumerate(each(pixels, files)):
                packed[i] = picture
                advance(1)
        packed.flush()


def new_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """Return a new .npy file of zeros, memory-mapped.

    Raises:
        OSError: when the disk has no room for it. To write to a mapped file that turns out to have
            none kills the process without a word.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with naming(path), open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def epoch_order(labels: np.ndarray, seed: int, epoch: int, ceiling: float = 0.0) -> np.ndarray:
    """Return the order of an epoch's pictures, int64 (n,).

    Args:
        labels: int64 (n,).
        seed: of the run.
        epoch: its number.
        ceiling: 0 takes every picture once. Above, classes are drawn equally often, but none more
            than about `ceiling` times as often as it occurs; an epoch stays as long as it was, and
            a picture is drawn again only when all of its class were.
    """
    rng = np.random.default_rng((seed, epoch))
    if not ceiling:
        return rng.permutation(len(labels))
    counts = np.bincount(labels)
    shares = np.minimum(counts.max(), ceiling * counts)
    sizes = np.diff(np.round(np.cumsum(shares) / shares.sum() * len(labels)).astype(int), prepend=0)
    drawn = []
    for label in np.flatnonzero(sizes):
        pictures = np.flatnonzero(labels == label)
        rounds = -(-sizes[label] // len(pictures))
        drawn.append(np.concatenate([rng.permutation(pictures) for _ in range(rounds)])
                     [: sizes[label]])  # fmt: skip
    return rng.permutation(np.concatenate(drawn))


def batches(
    split: Split,
    batch_size: int,
    order: np.ndarray | None = None,
    skip: int = 0,
    augment: Callable | None = None,
    share: Callable[[np.ndarray], np.ndarray] | None = None,
):
    """Return a tf.data.Dataset over a split; the last, partial batch is kept.

    Args:
        split: the pictures.
        batch_size: pictures a batch.
        order: indices of the pictures in the order wanted; None takes them as they stand.
        skip: batches at the front that were already used, when resuming.
        augment: (uint8 images, int64 step) -> images, for training only.
        share: from a batch's pictures to those of them that this process trains on; None is all.

    Yields (as dataset elements):
        uint8 or float32 images (batch, height, width, 3) in 0..255 and int64 labels (batch,).
    """
    import tensorflow as tf

    order = np.arange(len(split.labels)) if order is None else order
    steps = math.ceil(len(order) / batch_size)

    def take(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = order[step * batch_size : (step + 1) * batch_size]
        chosen = chosen if share is None else share(chosen)
        return split.images[chosen], split.labels[chosen]

    # Not from a generator, for which four functions would be traced anew in every epoch.
    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(take, [step], (tf.uint8, tf.int64))
        images.set_shape((None, *split.images.shape[1:]))
        labels.set_shape((None,))
        return (images if augment is None else augment(images, step)), labels

    # Nothing is left to tf.data's autotuning; at a busy epoch's end its thread is waited for, which
    # wakes after 10 ms, 20 ms and so on, doubled each time: up to as long as the epoch has taken.
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.range(skip, steps).map(batch, num_parallel_calls=2)
    return data.prefetch(2).with_options(options)
