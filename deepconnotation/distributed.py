"""The same training on several devices, or on several machines at once.

One machine with several GPUs is used as a whole. Several machines are told about each other by
TensorFlow's environment variable TF_CONFIG, the same on each but for its own index:

    {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}

All of them see the same data set and the same run folder. A batch is divided among all replicas (a
device each), and their gradients are added, so that batch size, rate and steps mean what they mean
on one device. Batch normalisation takes its statistics from a replica's own share.
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepconnotation.backend import tf
from deepconnotation.console import UserError
from deepconnotation.run import Run

#: what TensorFlow raises in the others when a process is gone
LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError,
    tf.errors.CancelledError, tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError,
)  # fmt: skip


@dataclass(frozen=True)
class Team:
    """The devices that train together; by default the usual one.

    Attributes:
        strategy: TensorFlow's, of all of them.
        worker: number of this process.
        workers: number of processes.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Number of devices of all processes together."""
        return self.strategy.num_replicas_in_sync

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and speaks."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager:
        """Return the context in which variables are made on every device."""
        return self.strategy.scope()

    def steps(self, pictures: int, batch: int) -> int:
        """Return the steps of an epoch; a last batch too small for all replicas is left out."""
        whole, rest = divmod(pictures, batch)
        return whole + (rest >= self.replicas)

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Divide a batch's rows among this process's own replicas."""
        own = self.replicas // self.workers
        parts = np.array_split(rows, self.replicas)
        return parts[self.worker * own : (self.worker + 1) * own]

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of a batch that this process reads."""
        return np.concatenate(self.parts(rows))

    def spread(self, rows: np.ndarray, values: tuple) -> tuple:
        """Give every replica of this process its part of values.

        Args:
            rows: of the whole batch.
            values: arrays or tensors with a row for each of `share(rows)`.
        """
        if self.replicas == 1:
            return tuple(map(tf.convert_to_tensor, values))
        ends = np.cumsum([0, *map(len, self.parts(rows))])

        def of(value) -> tf.distribute.DistributedValues:
            def part(context) -> tf.Tensor:
                i = context.replica_id_in_sync_group % (len(ends) - 1)
                return tf.convert_to_tensor(value[ends[i] : ends[i + 1]])

            return self.strategy.experimental_distribute_values_from_function(part)

        return tuple(map(of, values))

    def first(self, value) -> tf.Tensor:
        """Return what is the same on all replicas."""
        return self.strategy.experimental_local_results(value)[0]

    def meet(self) -> None:
        """Wait for all processes."""
        if self.workers > 1:
            one = self.strategy.run(lambda: tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tf.ones(())))  # fmt: skip
            self.first(one).numpy()

    def desk(self, found: Run) -> Run:
        """Return the run whose folder this process writes into: a copy where another one leads."""
        if self.leads:
            return found
        folder = Path(tempfile.mkdtemp(prefix="deepconnotation-worker-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        state = found.path / "last" / "state.npz"
        if state.exists():
            (folder / "last").mkdir()
            shutil.copy(state, folder / "last")
        return Run(folder, {}).update(**found.config)

    def together(self, work: Callable[[], int]) -> int:
        """Do this process's part of the work; say what to do when another one is lost.

        Raises:
            UserError: when another process does not answer any more.
        """
        try:
            return work()
        except LOST as error:
            if self.workers == 1:
                raise
            raise UserError(f"another worker is gone ({type(error).__name__}); start all of them "
                            "again with the same command: they go on after the last whole epoch"
                            ) from None  # fmt: skip


def team() -> Team:
    """Return all devices that there are to train on.

    Raises:
        UserError: when TF_CONFIG is no such description.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        workers = config.get("cluster", {}).get("worker", [])
        index = config["task"]["index"] if workers else 0
        if workers and (config["task"]["type"] != "worker" or not 0 <= index < len(workers)):
            raise ValueError("its task is none of its workers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG: {error}; expected {{'cluster': {{'worker': [ADDRESS, ...]}}, "
                        "'task': {'type': 'worker', 'index': N}}") from None  # fmt: skip
    if len(workers) > 1:
        return Team(tf.distribute.MultiWorkerMirroredStrategy(), index, len(workers))
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return Team(tf.distribute.MirroredStrategy())
    return Team()
