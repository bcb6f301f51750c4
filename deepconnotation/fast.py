"""Answers without TensorFlow, by LiteRT, where its runtime is installed (extra [fast])."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deepconnotation import run
from deepconnotation.console import quiet

FILE = "model.tflite"

Answers = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def answers(found: run.Run) -> Answers | None:
    """Return a function from pictures to answers.

    Returns:
        Function from uint8 (n, H, W, 3) to float32 (n, classes), log-probabilities as
        `answer.answers` tells them, and float32 (n, 2) or (n, 0), valence and arousal. None where
        the runtime is not installed, or the run has no model.tflite that answers as it would.
    """
    path, known = found.path / FILE, found.config.get("litert")
    if not known or not path.is_file() or known != made_of(found, run.file_sha256(path)):
        return None
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    return _Answers(Interpreter, path, len(found.classes))


def made_of(found: run.Run, sha256: str) -> dict:
    """Return what run.json says of a model.tflite: its digest, and all that its answers rest on."""
    return {
        "sha256": sha256, "model_sha256": found.config["model_sha256"],
        "test_flip": found.test_flip, "multi_label": found.multi_label,
        "temperature": found.temperature,
    }  # fmt: skip


class _Answers:
    def __init__(self, interpreter: type, path: Path, classes: int):
        self.classes, self.shape = classes, None
        with quiet():
            self.net = interpreter(str(path), num_threads=os.cpu_count())
        self.input = self.net.get_input_details()[0]["index"]
        self.output = self.net.get_output_details()[0]["index"]

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if images.shape != self.shape:
            self.shape = images.shape
            self.net.resize_tensor_input(self.input, images.shape)
            with quiet():
                self.net.allocate_tensors()
        self.net.set_tensor(self.input, images.astype(np.float32))
        self.net.invoke()
        found = self.net.get_tensor(self.output)
        return found[:, : self.classes], found[:, self.classes :]
