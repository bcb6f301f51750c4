"""Answers without TensorFlow, by LiteRT, where its runtime is installed (extra [fast]).

    RUN/model.tflite, RUN/model.tflite.json    or both in the user's own cache, where nothing can be
                                               written into the run folder
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from deepconnotation import run
from deepconnotation.console import UserError, own_cache, quiet, utf8

FILE = "model.tflite"
MADE_OF = "model.tflite.json"

Answers = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def answers(found: run.Run) -> Answers | None:
    """Return a function from pictures to answers.

    Returns:
        Function from uint8 (n, H, W, 3) to float32 (n, classes), log-probabilities as
        `answer.answers` tells them, and float32 (n, 2) or (n, 0), valence and arousal. None where
        the runtime is not installed, or the run has no model.tflite that answers as it would.
    """
    for folder in _folders(found):
        if _fits(found, folder) and installed():
            return LiteRT(folder / FILE, len(found.classes))
    return None


def _folders(found: run.Run) -> Iterator[Path]:
    yield found.path
    with contextlib.suppress(UserError):  # a user without a home
        yield own_cache(found.path)


def _fits(found: run.Run, folder: Path) -> bool:
    try:
        known = json.loads((folder / MADE_OF).read_text("utf-8"))
        return known == made_of(found, run.file_sha256(folder / FILE))
    except (OSError, ValueError):
        return False


def place(found: run.Run) -> Path | None:
    """Return the folder in which a run's model.tflite can be made; None where there is none."""
    for folder in _folders(found):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return None


def installed() -> bool:
    """Tell whether the runtime is there, and can be loaded."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401, whether it is there
    except ImportError:
        return False
    return True


def made_of(found: run.Run, sha256: str) -> dict:
    """Return what is known of a model.tflite: its digest, and all that its answers rest on."""
    return {
        "sha256": sha256, "model_sha256": run.file_sha256(found.path / "model.keras"),
        "test_flip": found.test_flip, "multi_label": found.multi_label,
        "temperature": found.temperature,
    }  # fmt: skip


class LiteRT:
    """Answers of a model.tflite; a net a thread, each on one core, is faster than one on all."""

    def __init__(self, path: Path, classes: int):
        """Take a file of `litert.convert` that tells this number of classes.

        Raises:
            UserError: when its name is one that the runtime cannot open.
        """
        if utf8(str(path)).decode() != str(path):
            raise UserError(f"{path}: LiteRT opens names in UTF-8 alone; rename the folder")
        self.path, self.classes = path, classes
        self.local, self.lock = threading.local(), threading.Lock()

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        net = self._net(images.shape)
        net.set_tensor(net.get_input_details()[0]["index"], images.astype(np.float32))
        net.invoke()
        found = net.get_tensor(net.get_output_details()[0]["index"])
        return found[:, : self.classes], found[:, self.classes :]

    def _net(self, shape: tuple[int, ...]):
        """Return the thread's own net, ready for pictures of a shape."""
        if not hasattr(self.local, "net"):
            self.local.net, self.local.shape = None, None
        if shape != self.local.shape:
            from ai_edge_litert.interpreter import Interpreter

            with self.lock, quiet():  # which turns standard error of the whole process
                net = self.local.net or Interpreter(str(self.path), num_threads=1)
                net.resize_tensor_input(net.get_input_details()[0]["index"], shape)
                net.allocate_tensors()
            self.local.net, self.local.shape = net, shape
        return self.local.net
