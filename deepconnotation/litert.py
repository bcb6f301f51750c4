"""A run's answers as a LiteRT file, which needs no TensorFlow to be asked."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from deepconnotation import fast, run
from deepconnotation.answer import answers_of
from deepconnotation.backend import tf
from deepconnotation.console import UserError, one_line, quiet, write_atomic
from deepconnotation.models.fold import fold


def frozen(found: run.Run):
    """Return a run's answers as a concrete function without variables.

    From float32 (n, H, W, 3), 0..255, to a list of one tensor, float32 (n, classes):
    log-probabilities with mirror image and temperature as the run has them, followed by valence and
    arousal where it tells them.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    model = fold(found.model)
    answer = answers_of(found, model)

    @tf.function(input_signature=[tf.TensorSpec(model.input_shape, tf.float32, "images")])
    def together(images):
        return tf.concat(answer(images), axis=1) if found.axes else answer(images)[0]

    with quiet():
        return convert_variables_to_constants_v2(together.get_concrete_function())


def convert(found: run.Run, shown: Iterable[np.ndarray] | None = None) -> bytes:
    """Return a LiteRT model that answers as `frozen` does.

    Args:
        found: the run.
        shown: pictures, float32 (1, H, W, 3), that show the range of every layer; then weights and
            sums have 8 bits. None keeps float32.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen(found)], tf.Module())
    if shown is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture] for picture in shown)
    with quiet():
        return converter.convert()


def write(found: run.Run, folder: Path) -> None:
    """Write a run's model.tflite into a folder, see `fast.place`; where the model cannot be
    converted, say so.

    Raises:
        UserError: when there is no model, or it is damaged.
    """
    try:
        data = convert(found)
    except UserError:
        raise
    except Exception as error:  # the converter raises many kinds, with pages of text
        print(f"no {fast.FILE}: {one_line(error)[:160]}; predict will use Keras", file=sys.stderr)
        return
    path = folder / fast.FILE
    try:
        write_atomic(path, data)
        known = fast.made_of(found, run.file_sha256(path))
        write_atomic(folder / fast.MADE_OF, json.dumps(known, indent=2) + "\n")
    except OSError as error:  # a full disk; answers go on without
        print(f"{error.filename}: {error.strerror}; predict will use Keras", file=sys.stderr)
