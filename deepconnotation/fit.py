"""The training loop.

Keras' `fit` cannot be resumed with its callbacks' counters, nor stop in the step in which the loss
ceases to be finite, so the loop is written out here. Everything it needs to go on is one file.
"""

import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from deepconnotation import affect, calibration, distribution, losses, multilabel
from deepconnotation.answer import answers, outputs
from deepconnotation.backend import keras, tf
from deepconnotation.console import (
    UserError,
    file_atomic,
    progress,
    reading,
    terminations,
    write_atomic,
)
from deepconnotation.data import augment, balance
from deepconnotation.data.pipeline import Split, batches, epoch_order
from deepconnotation.distributed import Team
from deepconnotation.models import heads, layers
from deepconnotation.models.fused import fuse
from deepconnotation.run import Run, file_sha256, save_model
from deepconnotation.schedule import Plateau, learning_rate
from deepconnotation.settings import Settings

SAVE_SECONDS = 600.0  # of an epoch that a kill costs at most
SETTLING = 2  # batches from which statistics are measured after an epoch
PLATEAU_FACTOR = math.sqrt(0.1)  # the original's ReduceLROnPlateau


class Diverged(Exception):
    """The loss is no longer a number; the text names epoch and step."""


class Stopped(Exception):
    """Somebody pressed Ctrl-C; everything is saved."""


@dataclass
class Progress:
    """Where a run stands; together with the variables, all that resuming needs.

    Attributes:
        epoch: epochs finished.
        step: steps finished of the next one.
        sums: [loss, right answers, pictures, seconds] of these steps.
        factor: by which ReduceLROnPlateau has lowered the rate.
        history: a row an epoch.
        chosen: what else dev chose for the best epoch, for run.json: "temperature" and
            "conformal_cut", or "thresholds" where pictures have several labels.
        best_epoch: number of the epoch whose weights model.keras holds.
        stopping: the monitored figure, as early stopping sees it.
        reducing: the same, as ReduceLROnPlateau sees it.
    """

    stopping: Plateau
    reducing: Plateau
    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    factor: float = 1.0
    history: list[dict] = field(default_factory=list)
    chosen: dict = field(default_factory=dict)
    best_epoch: int = 0

    def to_json(self) -> str:
        """Return all as text."""
        plain = {**vars(self), "stopping": self.stopping.state(), "reducing": self.reducing.state()}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """Undo `to_json`."""
        values = json.loads(text)
        for name in ("stopping", "reducing"):
            values[name] = Plateau(**values[name])
        return cls(**values)


def make_optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    """Return the optimizer; its rate is set anew at every step."""
    common = {
        "learning_rate": settings.rate,
        "weight_decay": settings.weight_decay or None,
        "global_clipnorm": settings.clip or None,
    }
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    elif settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": settings.weight_decay})
    else:
        optimizer = keras.optimizers.Adam(**common)
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if keras.mixed_precision.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


class WeightAverage:
    """An exponential moving average of a model's weights, statistics of batch normalisation too.

    The decay grows from 2 / 11 in the first steps, (1 + t) / (10 + t), up to its limit, so that the
    average does not remember the random start (as in TensorFlow's ExponentialMovingAverage).

    Args:
        model: whose weights are averaged.
        decay: limit, 0 to 1; 0 keeps no average, and `update` and `swap` do nothing.
    """

    def __init__(self, model: keras.Model, decay: float):
        self.decay = decay
        floats = [w for w in model.weights if w.value.dtype.is_floating]  # `Normalization` counts
        self.weights = floats if decay else []
        self.values = [tf.Variable(w.value, trainable=False) for w in self.weights]
        self.steps = tf.Variable(0.0, trainable=False)
        if decay:
            self.values.append(self.steps)

    def update(self) -> None:
        """Take a step's weights into the average."""
        if self.decay:
            self.steps.assign_add(1.0)
            decay = tf.minimum(self.decay, (1 + self.steps) / (10 + self.steps))
            for weight, value in zip(self.weights, self.values, strict=False):
                value.assign(decay * value + (1 - decay) * weight.value)

    def swap(self) -> None:
        """Exchange the model's weights and their average; twice is as before."""
        for weight, value in zip(self.weights, self.values, strict=False):
            kept = weight.numpy()
            weight.assign(value)
            value.assign(kept)


class Trainer:
    """Trains a model on one split and chooses its best epoch on another.

    Args:
        run: folder that gets model.keras, history.csv and last/.
        model: from images to logits.
        settings: of the run.
        train: the training split.
        dev: the split that chooses the best epoch; None keeps the last epoch.
        teacher: float32 (n, classes), another model's probabilities for the training pictures, or
            None.
        say: takes a line for the user.
        team: the devices that train together, on which the model was made; None is the usual one.

    Raises:
        UserError: when a setting does not go with several devices.
    """

    def __init__(
        self,
        run: Run,
        model: keras.Model,
        settings: Settings,
        train: Split,
        dev: Split | None,
        teacher: np.ndarray | None = None,
        say: Callable[[str], None] = print,
        team: Team | None = None,
    ):
        self.team = team or Team()
        self.run, self.settings = run, settings
        self.train_split, self.dev_split, self.say = train, dev, say
        if settings.freeze_until:
            heads.freeze_until(model, settings.freeze_until)
        if settings.head_epochs:
            with self.team.scope():
                model = heads.freeze_statistics(model)
        fuse(model)
        self.model = model
        self.classes = len(run.classes)
        self.steps = self.team.steps(len(train.labels), settings.batch)
        with self.team.scope():
            self.optimizer = make_optimizer(settings)
            self.optimizer.build(model.trainable_variables)
            self.average = WeightAverage(model, settings.ema)
        higher = settings.monitor != "val_loss"
        self.progress = Progress(Plateau(higher), Plateau(higher))
        counts = np.bincount(train.labels, minlength=self.classes)
        self.targets = self._make_targets(teacher)
        self.objective = losses.multi_label_loss if settings.multi_label else losses.objective(
            run.classes, counts, settings.label_smoothing, settings.focal,
            settings.logit_adjustment, settings.polarity, settings.wheel,
        )  # fmt: skip
        self.affect = affect.values(train.table)
        if settings.affect != "none" and not np.isfinite(self.affect).any():
            raise UserError("--affect: the data set tells no valence and no arousal")
        bound = balance.learned_bound(settings.class_weights)
        self.learned = losses.LearnedWeights(counts, bound) if bound else None
        if not self.learned:
            self.class_weights = tf.constant(balance.class_weights(settings.class_weights, counts))
        self.augmentation = augment.Augmentation(
            settings.flip, settings.shift, settings.rotate, settings.zoom, settings.cutout,
            settings.contrast,
        )  # fmt: skip
        self.rand_augment = None
        if settings.rand_augment:
            self.rand_augment = keras.layers.RandAugment(
                (0, 255), factor=settings.rand_augment, seed=settings.seed, dtype="float32"
            )
        self.settling = layers.Settling(model)
        if self.team.replicas > 1 and (self.rand_augment or self.learned or self.settling.needed):
            raise UserError("--rand-augment, --class-weights learned and networks with drop-path "
                            "do not work on several devices; hide all but one, for example with "
                            "CUDA_VISIBLE_DEVICES=0")  # fmt: skip
        #: each is called with every epoch's row of history.csv
        self.watchers: list[Callable[[pd.Series], None]] = []
        signature = (
            (
                tf.TensorSpec((None, *train.images.shape[1:]), tf.float32),
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((None, self.classes), tf.float32),
                tf.TensorSpec((None, 2), tf.float32),
            ),
            tf.TensorSpec((), tf.float32),
            tf.TensorSpec((2,), tf.int64),
        )
        traced = {"input_signature": signature} if self.team.replicas == 1 else {
            "reduce_retracing": True
        }  # fmt: skip
        # Without AutoGraph, as in Keras' own fit: what branches here is known when it is traced.
        self._head_step, self._step = (
            tf.function(partial(self._train_step, variables), autograph=False, **traced)
            for variables in (heads.variables(model), model.trainable_variables)
        )
        # Traced here, once, and not in every epoch's pipeline.
        self._change = tf.function(
            lambda images, seed: augment.apply(images, self.augmentation, seed),
            input_signature=(
                tf.TensorSpec((None, *train.images.shape[1:]), tf.uint8),
                tf.TensorSpec((2,), tf.int64),
            ),
            autograph=False,
        )
        self._answer = answers(model, settings.test_flip, settings.multi_label)

    def _make_targets(self, teacher: np.ndarray | None) -> np.ndarray:
        """Return float32 (n, classes), what the net should answer for each training picture."""
        settings, train = self.settings, self.train_split
        targets = np.eye(self.classes, dtype=np.float32)[train.labels]
        if settings.multi_label:
            targets = multilabel.present(train.table, self.run.classes).astype(np.float32)
        if settings.distributions:
            targets, known = distribution.targets(train.table, train.labels, self.run.classes)
            if not known.any():
                raise UserError("--distributions: the data set tells no shares of viewers")
        if teacher is not None:
            share = settings.teacher_share
            targets = (1 - share) * targets + share * teacher.astype(np.float32)
        if settings.votes:
            targets *= balance.reliability(train.table)[:, None]
        return targets

    # One step ------------------------------------------------------------------------------

    def _train_step(self, variables: list, examples: tuple, count: tf.Tensor, seed: tf.Tensor):
        """Change the weights by one batch; return its mean loss and its number of right answers.

        Args:
            variables: those that learn.
            examples: float32 images, int64 labels, float32 targets and (n, 2) valence and arousal,
                each for every replica.
            count: float32, pictures of the batch on all replicas together.
            seed: int64 (2,).
        """
        team = self.team
        found = team.strategy.run(self._gradients, (variables, *examples, count, seed))
        gradients, loss, right = tf.nest.map_structure(team.first, found[:3])
        # Outside of the replicas: clipping sees the gradient of the whole batch.
        self.optimizer.apply(gradients, variables)
        self.average.update()
        if self.learned:
            self.learned.update(*found[3])
        return loss, right

    def _gradients(
        self, variables: list, images: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor,
        true_affect: tf.Tensor, count: tf.Tensor, seed: tf.Tensor,
    ):  # fmt: skip
        """Return on a replica the whole batch's gradients, loss and right answers, and its own
        targets and losses."""
        replica = tf.distribute.get_replica_context()
        if self.team.replicas > 1:
            seed = tf.random.fold_in(seed, replica.replica_id_in_sync_group)
        if self.rand_augment:
            images = self.rand_augment(images, training=True)
        if self.settings.mixup:
            images, targets = augment.mixup(images, targets, self.settings.mixup, seed)
        if self.settings.cutmix:
            other = tf.random.fold_in(seed, 1)
            images, targets = augment.cutmix(images, targets, self.settings.cutmix, other)
        with tf.GradientTape() as tape:
            logits, told = outputs(self.model, images, training=True)
            weights = self.learned.variable if self.learned else self.class_weights
            loss = tf.reduce_sum(self.objective(targets, logits, weights)) / count
            if self.settings.affect != "none":
                share = self.settings.affect_share
                part = tf.cast(tf.shape(images)[0], tf.float32) / count
                other = losses.affect_loss(self.settings.affect, true_affect, told)
                loss = (1 - share) * loss + share * part * other
            penalty = tf.add_n(self.model.losses) if self.model.losses else 0.0
            loss += penalty / self.team.replicas
            scaled = self.optimizer.scale_loss(loss)
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))
        found = tape.gradient(scaled, variables), loss, right
        if self.team.replicas > 1:
            found = tf.nest.pack_sequence_as(found, replica.all_reduce(
                tf.distribute.ReduceOp.SUM, tf.nest.flatten(found)))  # fmt: skip
        each = self.objective(targets, logits, tf.ones(self.classes)) if self.learned else ()
        return *found, (targets, each)

    def _rate(self) -> float:
        """The schedule runs once for the head alone and once, lower, for all layers."""
        p, s = self.progress, self.settings
        alone = p.epoch < s.head_epochs
        epochs = min(s.head_epochs, s.epochs) if alone else s.epochs - s.head_epochs
        before = 0 if alone else s.head_epochs
        done = ((p.epoch - before) * self.steps + p.step + 1) / (self.steps * epochs)
        milestones = tuple(float(m) / 100 for m in s.milestones.split(","))
        warmup = min(s.warmup / epochs, 0.5)  # a short run still has to come down again
        highest = s.rate if alone or not s.head_epochs else s.rate * s.fine_tune
        return p.factor * learning_rate(s.schedule, highest, min(done, 1.0), warmup, milestones)

    # One epoch -----------------------------------------------------------------------------

    def _batches(self, order: np.ndarray) -> tf.data.Dataset:
        p, seed = self.progress, self.settings.seed
        base = tf.constant([seed, p.epoch * 1_000_000], tf.int64)
        worker = tf.constant([self.team.worker << 32, 0], tf.int64)  # each draws on its own

        def change(images, step):
            return self._change(images, base + worker + tf.stack([0, step]))

        size, share = self.settings.batch, self.team.share if self.team.replicas > 1 else None
        return batches(self.train_split, size, order[: self.steps * size], p.step, change, share)

    def _run_epoch(self, interrupted: Callable[[], bool]) -> None:
        p, size = self.progress, self.settings.batch
        order = epoch_order(
            self.train_split.labels, self.settings.seed, p.epoch, self.settings.balanced_sampling
        )
        step = self._head_step if p.epoch < self.settings.head_epochs else self._step
        what = f"epoch {p.epoch + 1}/{self.settings.epochs}, steps"
        with progress(what, self.steps, p.step) as advance:
            started = saved = time.monotonic()  # waiting for the batch is part of a step's time
            for images, labels in self._batches(order):
                rows = order[p.step * size : (p.step + 1) * size]
                own = self.team.share(rows)
                values = (images, labels, self.targets[own], self.affect[own])
                examples = self.team.spread(rows, values)
                # mixup draws from another stream than the augmentation of the same step
                seed = tf.constant([~self.settings.seed, p.epoch * 1_000_000 + p.step], tf.int64)
                self.optimizer.learning_rate.assign(self._rate())
                told = step(examples, tf.constant(len(rows), tf.float32), seed)
                loss, right = (float(v) for v in told)
                if not math.isfinite(loss):
                    raise Diverged(f"the loss is {loss} at epoch {p.epoch + 1}, step {p.step + 1}")
                n = len(rows)
                now = time.monotonic()
                new, started = (loss * n, right, n, now - started), now
                p.sums = [a + b for a, b in zip(p.sums, new, strict=True)]
                p.step += 1
                advance(1)
                if interrupted() and p.step < self.steps:
                    raise Stopped
                # Of several processes only whole epochs are sure to be the same on all.
                if now - saved >= SAVE_SECONDS and self.team.workers == 1:
                    saved = now
                    self.save()

    def _settle(self) -> None:
        """Let batch normalisation see how the net answers, where training is too unlike it."""
        if self.settling.needed:
            order = epoch_order(self.train_split.labels, self.settings.seed, self.progress.epoch)
            order = order[: SETTLING * self.settings.batch]
            self.settling(images for images, _ in self._batches(order))

    def _evaluate(self) -> tuple[dict[str, float], dict]:
        """Return the dev split's figures, and what it chooses beside the epoch."""
        if self.dev_split is None:
            return {}, {}
        labels = self.dev_split.labels
        data = batches(self.dev_split, 256)
        log_p, told = (np.concatenate(each) for each in
                       zip(*(self._answer(images) for images, _ in data), strict=True))  # fmt: skip
        predicted = log_p.argmax(axis=1)
        found = {
            "val_loss": float(-log_p[np.arange(len(labels)), labels].mean()),
            "val_accuracy": float((predicted == labels).mean()),
            "val_balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
        }
        if self.settings.affect != "none":
            found["val_ccc"] = affect.mean_ccc(affect.values(self.dev_split.table), told)
        if not self.settings.multi_label:
            return found, calibration.chosen(log_p, labels)
        there, p = multilabel.present(self.dev_split.table, self.run.classes), np.exp(log_p)
        rest = np.log1p(-np.minimum(p, 1 - 1e-7))
        found["val_loss"] = float(-np.where(there, log_p, rest).mean())
        cuts = multilabel.thresholds(there, p)
        found["val_map"] = multilabel.figures(there, p, cuts)["map"]
        return found, {"thresholds": cuts}

    def _finish_epoch(self) -> None:
        p, s = self.progress, self.settings
        started = time.monotonic()
        p.step = 0  # the next batches are the first of an epoch
        self.average.swap()
        self._settle()
        values, chosen = self._evaluate()
        if not math.isfinite(values.get("val_loss", 0.0)):
            raise Diverged(f"the dev loss is {values['val_loss']} after epoch {p.epoch + 1}")
        loss, right, n, seconds = p.sums
        seconds += time.monotonic() - started
        rate = float(self.optimizer.learning_rate.value.numpy())  # of all devices, where several
        figures = {"accuracy": right / n, **values}
        if not self.run.tells_classes:  # the rest is of a layer that learns nothing
            figures = {name: value for name, value in values.items() if name == "val_ccc"}
        p.history.append({
            "epoch": p.epoch + 1, "learning_rate": rate,
            "loss": loss / n, **figures, "seconds": round(seconds, 2),
        })  # fmt: skip
        if self.learned:
            names = (f"weight_{name}" for name in self.run.classes)
            weights = self.learned.variable.numpy().round(4).tolist()
            p.history[-1] |= dict(zip(names, weights, strict=True))
        p.epoch, p.sums = p.epoch + 1, [0.0] * 4
        if not values or p.stopping.update(values[s.monitor]):
            p.best_epoch, p.chosen = p.epoch, chosen
            save_model(self.model, self.run.path / "model.keras")
        self.average.swap()
        if values:
            p.reducing.update(values[s.monitor])
            if s.plateau and p.reducing.wait >= s.plateau:
                p.factor, p.reducing.wait = p.factor * PLATEAU_FACTOR, 0
        self.save()
        rows = pd.DataFrame(p.history)
        write_atomic(self.run.path / "history.csv", rows.to_csv(index=False))
        row = rows.iloc[-1]
        figures = ", ".join(f"{k} {row[k]:.4g}" for k in rows.columns[1:])
        self.say(f"epoch {p.epoch}/{s.epochs}: {figures}")
        for watch in self.watchers:
            watch(row)

    def log_to_tensorboard(self) -> None:
        """Write every epoch's figures into RUN/tensorboard as well.

        Raises:
            UserError: when TensorBoard is not installed.
        """
        try:
            from tensorboard.summary import Writer
        except ImportError:
            raise UserError(
                "--tensorboard: TensorBoard is not installed; pip install deepconnotation"
                "[tensorboard]"
            ) from None
        writer = Writer(str(self.run.path / "tensorboard"))

        def log(row: pd.Series) -> None:
            for name, value in row.drop("epoch").items():
                writer.add_scalar(name, value, int(row["epoch"]))
            writer.flush()

        self.watchers.append(log)

    # The whole run -------------------------------------------------------------------------

    def fit(self) -> Run:
        """Train to the end, or until nothing gets better.

        Returns:
            The run, its state "finished".

        Raises:
            Diverged: when a loss is not finite; model.keras keeps the last good weights.
            KeyboardInterrupt: after Ctrl-C, when all is saved.
        """
        p, s = self.progress, self.settings
        try:
            # Of several processes none may stop at a step of its own: the others would wait.
            alone = self.team.workers == 1
            with _ctrl_c() if alone else nullcontext(lambda: False) as interrupted:
                while p.epoch < s.epochs and not (s.patience and p.stopping.wait >= s.patience):
                    self._run_epoch(interrupted)
                    self._finish_epoch()
                    if interrupted() and p.epoch < s.epochs:
                        raise Stopped
        except Diverged as error:
            self.run.update(state="diverged", diverged=str(error), **self._summary())
            raise
        except Stopped:
            self.save()
            self.run.update(state="interrupted", **self._summary())
            hint = f"python -m deepconnotation.train --resume {self.run.path}"
            raise KeyboardInterrupt(f"all is saved; go on with: {hint}") from None
        return self.run.update(state="finished", **self._summary())

    def _summary(self) -> dict:
        p, path = self.progress, self.run.path / "model.keras"
        return {
            "epochs_done": p.epoch,
            "best_epoch": p.best_epoch,
            **p.chosen,
            "train_seconds": round(sum(row["seconds"] for row in p.history) + p.sums[3], 1),
            "model_sha256": file_sha256(path) if path.exists() else None,
        }

    # Saving and resuming -------------------------------------------------------------------

    def _variables(self) -> list:
        learned = [self.learned.variable] if self.learned else []
        drawn = self.rand_augment.variables if self.rand_augment else []
        return [*self.model.variables, *self.optimizer.variables, *learned, *drawn,
                *self.average.values]  # fmt: skip

    def save(self) -> None:
        """Write last/state.npz."""
        arrays = {f"v{i:05}": v.numpy() for i, v in enumerate(self._variables())}
        with file_atomic(self.run.path / "last" / "state.npz") as partial:
            np.savez(partial, progress=np.array(self.progress.to_json()), **arrays)

    def restore(self) -> None:
        """Read last/state.npz; without one the run starts at its beginning.

        Raises:
            UserError: when it is damaged.
        """
        path = self.run.path / "last" / "state.npz"
        if not path.exists():
            return
        hint = f"start a new run with --weights {self.run.path}"
        with reading(path, hint), np.load(path, allow_pickle=False) as state:
            self.progress = Progress.from_json(str(state["progress"]))
            for i, variable in enumerate(self._variables()):
                variable.assign(state[f"v{i:05}"])


@contextmanager
def _ctrl_c():
    """Let the first Ctrl-C, or what ends a command as it does, ask for a stop after the step; a
    second Ctrl-C stops at once."""
    asked = False

    def ask(*_) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = {each: signal.signal(each, ask) for each in (signal.SIGINT, *terminations())}
    except ValueError:  # not the main thread: nobody can press Ctrl-C here
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
