"""The training loop: resuming, stopping, class weights, and a loss that is not a number."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from deepconnotation import backend, fit, run, train
from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError, alone_in
from deepconnotation.data import pipeline, prepare
from deepconnotation.settings import OPTIMIZERS, Settings

SETTINGS = Settings(epochs=4, batch=16, rate=0.02, mixup=0.2, cutmix=0.5, ema=0.9, rotate=10,
                    patience=3, plateau=1, deterministic=True)  # fmt: skip


def tiny(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, kernel_regularizer="l2", name="conv")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="bn")(x))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D(name="embedding")(x))
    return keras.Model(inputs, keras.layers.Dense(8, dtype="float32", name="logits")(x))


def bare_run(path) -> run.Run:
    """A folder that says as little as a trainer needs."""
    return run.create(path, {
        "arch": "tiny", "classes": list("abcdefgh"), "emotion_set": "fi8", "settings": {},
        "input_shape": [16, 16, 3], "data": {}})  # fmt: skip


def tiny_trainer(data, path, settings: Settings) -> fit.Trainer:
    """A trainer of a tiny model, at the beginning or where the run in that folder stopped."""
    splits = pipeline.load(data, "train"), pipeline.load(data, "dev")
    found = run.load(path) if path.exists() else bare_run(path)
    made = fit.Trainer(found, tiny(), settings, *splits, say=lambda line: None)
    made.restore()
    return made


@pytest.fixture
def trainer(toy_data, tmp_path):
    """Makes trainers of a tiny model, each in a run folder of its own."""

    def make(name: str, settings: Settings = SETTINGS) -> fit.Trainer:
        return tiny_trainer(toy_data, tmp_path / name, settings)

    return make


@pytest.fixture(scope="module")
def never_stopped(toy_data, tmp_path_factory):
    """Makes trainers that have trained without a stop, one for each settings."""

    @cache
    def trained(settings: Settings) -> fit.Trainer:
        made = tiny_trainer(toy_data, tmp_path_factory.mktemp("whole") / "run", settings)
        made.fit()
        return made

    return trained


def weights(made: fit.Trainer) -> list[np.ndarray]:
    return [v.numpy() for v in made.model.variables + made.optimizer.variables]


@pytest.mark.parametrize(
    ("stop_after", "head_epochs"),
    [(3, 0), (8, 0), (4, 2), (8, 2),
     *(pytest.param(stop, 0, marks=pytest.mark.slow) for stop in (2, 4))],
)
def test_resumed_equals_never_stopped(trainer, never_stopped, monkeypatch, stop_after, head_epochs):
    """Three steps an epoch: stopped in the middle of one, and between two."""
    settings = replace(SETTINGS, head_epochs=head_epochs)
    if (stop_after, head_epochs) == (8, 0):
        settings = replace(settings, rand_augment=0.5)  # it takes long to trace
    whole = never_stopped(settings)
    part = trainer("part", settings)
    steps = iter(range(1, 1000))

    def counted(real):
        def step(*arguments):
            if next(steps) == stop_after:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*arguments)

        return step

    for name in ("_step", "_head_step"):
        monkeypatch.setattr(part, name, counted(getattr(part, name)))
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        part.fit()
    assert run.load(part.run.path).config["state"] == "interrupted"
    resumed = trainer("part", settings)
    assert resumed.progress.epoch * 3 + resumed.progress.step == stop_after
    resumed.fit()
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        assert (a == b).all()
    drop = ["seconds"]
    histories = [pd.DataFrame(t.progress.history).drop(columns=drop) for t in (whole, resumed)]
    pd.testing.assert_frame_equal(*histories)
    assert whole.progress.stopping == resumed.progress.stopping
    assert whole.progress.reducing == resumed.progress.reducing
    assert whole.progress.factor == resumed.progress.factor < 1 or whole.progress.factor == 1


@pytest.fixture
def uneven(toy_data):
    """The toy training pictures, one of the first class, two of the second, …, six of the last."""
    part = pipeline.load(toy_data, "train")
    wanted = [np.flatnonzero(part.labels == c)[: max(c - 1, 1)] for c in range(8)]
    rows = np.concatenate(wanted)
    return pipeline.Split(part.table.iloc[rows], part.images[rows], part.labels[rows])


def softmax_gradient(logits, labels, weights=1.0):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.broadcast_to(weights, 8)[labels][:, None] * (p - np.eye(8)[labels])


def focal_gradient(logits, labels, gamma=2.0, step=1e-4):
    """Of -(1 - p)^gamma log p, by differences."""

    def loss(z):
        p = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))[np.arange(len(z)), labels]
        return -((1 - p) ** gamma) * np.log(p)

    columns = [loss(logits + step * e) - loss(logits - step * e) for e in np.eye(8)]
    return np.stack(columns, axis=1) / (2 * step)


COUNTS = np.array([1, 1, 1, 2, 3, 4, 5, 6])
IMBALANCE = {
    "plain": ({}, softmax_gradient),
    "weights": ({"class_weights": "1,2,3,4,5,6,7,8"},
                lambda z, y: softmax_gradient(z, y, np.arange(1.0, 9))),
    "inverse": ({"class_weights": "inverse"},
                lambda z, y: softmax_gradient(z, y, 23 / 8 / COUNTS)),
    "focal": ({"focal": 2.0}, focal_gradient),
    "adjusted": ({"logit_adjustment": 1.0},
                 lambda z, y: softmax_gradient(z + np.log(COUNTS / 23), y)),
    "sampling": ({"balanced_sampling": 100.0}, softmax_gradient),
}  # fmt: skip


@pytest.mark.parametrize("name", IMBALANCE)
def test_remedies_for_imbalance_change_the_gradient(uneven, tmp_path, name):
    """One step of SGD on tf.data moves the bias by -(1 + .9) rate times the gradient's mean."""
    options, formula = IMBALANCE[name]
    settings = Settings(epochs=1, batch=64, rate=0.1, warmup=0, schedule="constant", clip=0,
                        flip=False, shift=0, **options)  # fmt: skip
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Flatten(name="embedding")(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(8, name="logits")(x))
    order = pipeline.epoch_order(uneven.labels, 0, 0, settings.balanced_sampling)
    if name == "sampling":
        assert np.ptp(np.bincount(uneven.labels[order])) <= 1
    logits = np.asarray(model(uneven.images[order].astype(np.float32)), np.float64)
    expected = formula(logits, uneven.labels[order]).mean(axis=0)
    found = bare_run(tmp_path / "run")
    fit.Trainer(found, model, settings, uneven, None, say=lambda line: None).fit()
    bias = model.get_layer("logits").bias.numpy()
    assert np.allclose(bias, -1.9 * 0.1 * expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


def test_votes_weigh_pictures(uneven, tmp_path):
    """Five of five count twice as much as two and a half: here 4 against 2 of 5, mean 3.2 of 5."""
    table = uneven.table.assign(votes_for="2", votes_against="3")
    table.iloc[:14, table.columns.get_loc("votes_for")] = "4"
    table.iloc[:14, table.columns.get_loc("votes_against")] = "1"
    part = pipeline.Split(table, uneven.images, uneven.labels)
    found = bare_run(tmp_path / "run")
    made = fit.Trainer(found, tiny(), Settings(votes=True), part, None)
    mean = (14 * 0.8 + 9 * 0.4) / 23
    sums = made.targets.sum(axis=1)
    assert np.allclose(sums, np.repeat([0.8, 0.4], [14, 9]) / mean)
    assert sums.mean() == pytest.approx(1)
    with pytest.raises(UserError, match="--votes: .* has no votes in the manifest"):
        fit.Trainer(found, tiny(), Settings(votes=True), uneven, None)


def test_averaged_weights_by_hand():
    model = tiny()
    average = fit.WeightAverage(model, 0.5)
    (weight,) = model.get_layer("logits").trainable_variables[:1]
    expected = weight.numpy()
    for step in (1, 2, 30):
        weight.assign_add(np.ones(weight.shape))
        average.steps.assign(step - 1)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.numpy()
    raw = weight.numpy()
    average.swap()
    assert np.allclose(weight.numpy(), expected, atol=1e-6) and not np.allclose(expected, raw)
    average.swap()
    assert (weight.numpy() == raw).all()


def test_a_weight_that_counts_is_not_averaged():
    """As EfficientNet-B0 has one; an average of whole numbers was a traceback."""
    layer = keras.layers.Normalization()
    model = keras.Sequential([layer])
    layer.adapt(np.array([[1.0], [3.0]]))
    fit.WeightAverage(model, 0.5).update()
    assert [w.name for w in model.weights if "int" in w.dtype] == ["count"]


def test_averaged_weights_answer_for_the_run(trainer):
    made = trainer("averaged", Settings(epochs=1, batch=16, rate=0.05, ema=0.9))
    made.fit()
    saved = run.load(made.run.path).model.get_layer("conv").get_weights()[0]
    index = [w.path for w in made.average.weights].index("conv/kernel")
    assert np.allclose(saved, made.average.values[index].numpy(), atol=1e-6)
    assert not np.allclose(saved, made.model.get_layer("conv").get_weights()[0], atol=1e-4)


def test_rand_augment_draws_anew_every_step_and_only_in_training(trainer):
    made = trainer("random", Settings(rand_augment=0.5, batch=16, epochs=1))
    images = tf.constant(np.asarray(made.train_split.images[:16], np.float32))
    first, second = (np.asarray(made.rand_augment(images, training=True)) for _ in range(2))
    assert (first != second).any() and (first != images.numpy()).any()
    assert first.min() >= 0 and first.max() <= 255
    before = [v.numpy() for v in made.rand_augment.variables]
    made.fit()
    moved = [(a != v.numpy()).any()
             for a, v in zip(before, made.rand_augment.variables, strict=True)]  # fmt: skip
    assert any(moved)
    names = {type(layer).__name__ for layer in run.load(made.run.path).model.layers}
    assert "RandAugment" not in names


def test_augmentation_draws_anew_every_epoch_and_step_and_repeats_when_resumed(trainer):
    made = trainer("moved", Settings(batch=16, epochs=2, shift=0.2))
    order = np.tile(np.arange(16), 3)  # three steps of the same pictures

    def seen(epoch: int, step: int = 0) -> list[np.ndarray]:
        made.progress.epoch, made.progress.step = epoch, step
        return [images.numpy() for images, _ in made._batches(order)]

    first, other = seen(0), seen(1)
    drawn = [*first, *other]
    assert all((a != b).any() for i, a in enumerate(drawn) for b in drawn[:i])
    assert all((a == b).all() for a, b in zip(seen(1, step=1), other[1:], strict=True))


def test_learned_class_weights_are_logged_saved_and_resumed(trainer):
    settings = replace(SETTINGS, class_weights="learned:3")
    made = trainer("learned", settings)
    made.fit()
    history = pd.read_csv(made.run.path / "history.csv")
    logged = history[[f"weight_{c}" for c in "abcdefgh"]].to_numpy()
    assert (logged > 1 / 3).all() and (logged < 3).all() and (logged[0] != logged[-1]).any()
    assert np.allclose(logged.mean(axis=1), 1, atol=1e-3)  # six pictures a class
    again = trainer("learned", settings)
    assert (again.learned.variable.numpy() == made.learned.variable.numpy()).all()
    with pytest.raises(UserError, match="learned:BOUND, a number above 1"):
        trainer("wrong", replace(settings, class_weights="learned:.5"))


def test_two_phases_train_the_head_and_then_all_at_a_lower_rate(trainer):
    settings = Settings(epochs=4, batch=16, head_epochs=2, fine_tune=0.1, rate=0.01, warmup=0,
                        schedule="constant")  # fmt: skip
    made = trainer("phases", settings)
    layer = {name: made.model.get_layer(name) for name in ("conv", "logits")}
    assert layer["conv"].use_bias  # batch normalisation is in it, and can forget no statistics
    states = []

    def keep(row):
        states.append({name: each.get_weights() for name, each in layer.items()})

    start = {name: each.get_weights() for name, each in layer.items()}
    made.watchers.append(keep)
    made.fit()

    def same(name, a, b):
        return all((x == y).all() for x, y in zip(a[name], b[name], strict=True))

    assert not same("logits", start, states[0]) and same("conv", start, states[1])
    assert not same("conv", states[1], states[2])
    rates = [row["learning_rate"] for row in made.progress.history]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_every_optimizer_decays_as_told(name, decay):
    """A step without a gradient leaves the kernel, but for decay, and always the bias."""
    optimizer = fit.make_optimizer(Settings(optimizer=name, rate=0.5, weight_decay=decay))
    kernel, bias = (keras.Variable(np.ones(3), name=each) for each in ("kernel", "bias"))
    optimizer.build([kernel, bias])
    optimizer.apply([tf.zeros(3), tf.zeros(3)], [kernel, bias])
    assert np.allclose(kernel, 1 - 0.5 * decay) and np.allclose(bias, 1)


def test_frozen_layers_do_not_learn(trainer):
    made = trainer("frozen", Settings(epochs=1, batch=16, rate=0.01, freeze_until="bn"))
    before = {name: made.model.get_layer(name).get_weights() for name in ("conv", "bn", "logits")}
    made.fit()
    for name, values in before.items():
        after = made.model.get_layer(name).get_weights()
        same = all((a == b).all() for a, b in zip(values, after, strict=True))
        assert same == (name != "logits")
    with pytest.raises(UserError, match="--freeze-until 'con': no such layer.*'conv'"):
        trainer("unknown", Settings(freeze_until="con"))
    with pytest.raises(UserError, match="nothing would be left to learn"):
        trainer("all", Settings(freeze_until="logits"))


def test_best_epoch_is_the_monitors_and_its_weights_are_kept(trainer):
    made = trainer("best")
    made.fit()
    history = pd.DataFrame(made.progress.history)
    best = history.loc[history["val_loss"].idxmin(), "epoch"]
    found = run.load(made.run.path)
    assert found.config["best_epoch"] == best and found.config["state"] == "finished"
    logits = found.model(np.asarray(made.dev_split.images, np.float32))
    loss = keras.losses.sparse_categorical_crossentropy(made.dev_split.labels, logits, True)
    assert float(np.mean(loss)) == pytest.approx(history["val_loss"].min(), abs=1e-5)
    assert pd.read_csv(made.run.path / "history.csv")["epoch"].tolist() == list(
        range(1, len(history) + 1)
    )


def test_early_stopping_and_plateau(trainer):
    settings = Settings(epochs=30, batch=64, rate=1e-9, warmup=0, schedule="constant",
                        weight_decay=0, patience=4, plateau=2, monitor="val_accuracy")  # fmt: skip
    made = trainer("flat", settings)
    for layer in made.model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 1.0  # nothing moves at such a rate, so accuracy is flat
    made.fit()
    assert made.progress.epoch == 5 and made.progress.best_epoch == 1
    rates = [row["learning_rate"] for row in made.progress.history]
    assert rates == pytest.approx([1e-9, 1e-9, 1e-9, 1e-9 * 0.1**0.5, 1e-9 * 0.1**0.5])


def test_nan_stops_at_once_and_keeps_good_weights(trainer):
    made = trainer("nan", Settings(epochs=3, batch=16, rate=0.01))
    real, calls = made._step, iter(range(1, 100))

    def poisoned(*arguments):
        if next(calls) == 5:
            made.model.trainable_variables[0].assign_add(
                np.full(made.model.trainable_variables[0].shape, np.nan, np.float32)
            )
        return real(*arguments)

    made._step = poisoned
    with pytest.raises(fit.Diverged, match="epoch 2, step 2"):
        made.fit()
    found = run.load(made.run.path)
    assert found.config["state"] == "diverged" and "epoch 2, step 2" in found.config["diverged"]
    assert found.config["epochs_done"] == 1
    assert all(np.isfinite(v.numpy()).all() for v in found.model.variables)


def test_a_diverged_run_has_no_score(toy_data, tmp_path, capsys):
    settings = Settings(epochs=3, batch=16, rate=100.0, clip=0, warmup=0, l2=10.0)
    assert train.start("small_cnn", toy_data, tmp_path / "r", settings) == train.DIVERGED
    assert "no score is reported" in capsys.readouterr().err
    assert not (tmp_path / "r/metrics.json").exists()
    with pytest.raises(UserError, match="diverged"):
        train.resume(str(tmp_path / "r"))


def test_class_weights_change_the_gradient(trainer):
    """A step with a class weighted 0 leaves that class's bias to the other classes alone."""
    weights_of = {}
    for scheme in ("none", "0,1,1,1,1,1,1,1"):
        settings = Settings(epochs=1, batch=48, class_weights=scheme, label_smoothing=0,
                            warmup=0, schedule="constant", clip=0, flip=False, shift=0)  # fmt: skip
        made = trainer(f"weights{scheme[0]}", settings)
        made.fit()
        weights_of[scheme] = made.model.layers[-1].bias.numpy()
    plain, weighted = weights_of.values()
    # Without pictures of class 0 pulling it up, its bias can only fall.
    assert weighted[0] < 0 < plain[0] - weighted[0]
    assert not np.allclose(plain, weighted, atol=1e-4)


def test_tensorboard_gets_every_epoch(trainer):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = trainer("logged", Settings(epochs=2, batch=16, rate=0.01))
    made.log_to_tensorboard()
    made.fit()
    events = EventAccumulator(str(made.run.path / "tensorboard"))
    events.Reload()
    name = "val_accuracy"
    found = [event.tensor_proto.float_val[0] for event in events.Tensors(name)]
    assert found == pytest.approx([row[name] for row in made.progress.history])


def test_a_gpu_that_lies_idle_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "NVIDIA", f"{tmp_path}/nvidia[0-9]*")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not backend.idle_gpu()
    (tmp_path / "nvidia0").touch()
    assert backend.idle_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not backend.idle_gpu()


@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [("float32", "sgd"), ("mixed_bfloat16", "adam"), ("mixed_float16", "sgd"),
     ("mixed_float16", "adam"), ("mixed_float16", "adamw"),
     *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (
         ("float32", "adam"), ("float32", "adamw"), ("mixed_bfloat16", "sgd"),
         ("mixed_bfloat16", "adamw")))],
)  # fmt: skip
def test_every_optimizer_learns_in_every_precision(trainer, optimizer, precision):
    settings = Settings(epochs=4, batch=16, optimizer=optimizer, weight_decay=1e-4, clip=1.0,
                        rate=0.05 if optimizer == "sgd" else 0.01, flip=False, shift=0)  # fmt: skip
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        made = trainer(f"{optimizer}-{precision}", settings)
        history = pd.DataFrame(made.fit() and made.progress.history)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert np.isfinite(history["val_loss"]).all()
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    kernels = [v for v in made.model.trainable_variables if v.path.endswith("kernel")]
    assert kernels and all(v.dtype == "float32" for v in kernels)


TRAIN = [sys.executable, "-m", "deepconnotation.train"]
FAST = "--arch small_cnn --epochs 12 --batch 8 --deterministic --rate 0.01".split()


def test_killed_training_resumes_to_equal_weights(toy_data, tmp_path):
    arguments = ["--data", str(toy_data), *FAST, "--run"]
    assert train.main([*arguments, str(tmp_path / "whole")]) == 0
    job = subprocess.Popen([*TRAIN, *arguments, tmp_path / "killed"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)  # fmt: skip
    history = tmp_path / "killed/history.csv"
    while job.poll() is None and not (history.exists() and len(history.read_text().split()) > 2):
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert run.load(tmp_path / "killed").config["state"] == "running", "killed too late"
    assert train.main(["--resume", str(tmp_path / "killed")]) == 0
    states = [np.load(tmp_path / name / "last/state.npz") for name in ("whole", "killed")]
    assert states[0].files == states[1].files
    for name in states[0].files:
        if name != "progress":
            assert (states[0][name] == states[1][name]).all(), name
    figures = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("whole", "killed")]
    assert figures[0]["accuracy"] == figures[1]["accuracy"]


def test_an_epoch_that_takes_long_is_saved_on_the_way(toy_data, tmp_path, monkeypatch):
    settings = Settings(epochs=1, batch=16, rate=0.01, deterministic=True)
    rate, begun = fit.Trainer._rate, []

    def lose_power_in_step_three(trainer):
        begun.append(trainer.progress.step)
        if begun == [0, 1, 2]:
            raise SystemError("the power is gone")
        return rate(trainer)

    train.start("small_cnn", toy_data, tmp_path / "whole", settings)
    monkeypatch.setattr(fit, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(fit.Trainer, "_rate", lose_power_in_step_three)
    with pytest.raises(SystemError):
        train.start("small_cnn", toy_data, tmp_path / "part", settings)
    assert train.resume(str(tmp_path / "part")) == 0
    assert begun == [0, 1, 2, 2]  # 48 pictures in steps of 16: the last is done again, no other
    states = [np.load(tmp_path / name / "last/state.npz") for name in ("whole", "part")]
    for name in set(states[0].files) - {"progress"}:
        assert (states[0][name] == states[1][name]).all(), name


def test_a_kill_after_a_resume_leaves_a_model_that_loads(tiny_run, toy_data, tmp_path, monkeypatch):
    part, rate, marks = tmp_path / "part", fit.Trainer._rate, []

    def stop_in_epoch_two_and_lose_power_in_epoch_three(trainer):
        if trainer.progress.epoch == 1 and not marks:
            marks.append(run.file_sha256(part / "model.keras"))
            os.kill(os.getpid(), signal.SIGINT)
        if trainer.progress.epoch == 2:
            raise SystemError("the power is gone")
        return rate(trainer)

    monkeypatch.setattr(fit.Trainer, "_rate", stop_in_epoch_two_and_lose_power_in_epoch_three)
    settings = Settings(epochs=3, batch=16, rate=0.02, ema=0.9)
    with pytest.raises(KeyboardInterrupt):
        begin(toy_data, part, settings).fit()
    with pytest.raises(SystemError):
        train.resume(str(part))
    assert run.file_sha256(part / "model.keras") != marks[0]  # the second epoch was better
    assert run.load(part).model.get_layer("logits").units == 8


def test_a_kill_between_training_and_evaluation_costs_nothing(toy_data, tmp_path):
    settings = Settings(epochs=1, batch=16, rate=0.01)
    assert train.start("small_cnn", toy_data, tmp_path / "r", settings) == 0
    with pytest.raises(UserError, match="is finished"):
        train.resume(str(tmp_path / "r"))
    before = (tmp_path / "r/predictions.csv").read_bytes()
    for name in ("metrics.json", "predictions.csv", "report.html"):
        (tmp_path / "r" / name).unlink()
    with alone_in(tmp_path / "r"), pytest.raises(UserError, match="r: another process is at work"):
        train.resume(str(tmp_path / "r"))
    assert train.resume(str(tmp_path / "r")) == 0
    assert (tmp_path / "r/predictions.csv").read_bytes() == before


def begin(data, folder, settings: Settings, weights="none") -> fit.Trainer:
    """What `train.start` makes before it trains, evaluates and reports."""
    return train.make_trainer(
        train.new_run("small_cnn", data, folder, settings, str(weights)), settings)  # fmt: skip


def test_weights_of_another_run_are_taken(toy_run, toy_data, tmp_path):
    trainer = begin(toy_data, tmp_path / "r", Settings(epochs=1, batch=16), toy_run.path)
    for name in ("conv2", "logits"):
        new, old = (m.get_layer(name).kernel.numpy() for m in (trainer.model, toy_run.model))
        assert (new == old).all()
    with pytest.raises(UserError, match="does not fit"):
        train.start("resnet18", toy_data, tmp_path / "s", Settings(epochs=1, width=4),
                    weights=str(toy_run.path))  # fmt: skip


@pytest.fixture
def tiny_run(toy_data, tmp_path, monkeypatch):
    """A run of the tiny model; every other run of the test is of that model too."""
    monkeypatch.setattr(train, "build", lambda *arguments, **options: tiny())
    begin(toy_data, tmp_path / "tiny", Settings(epochs=2, batch=16, rate=0.05)).fit()
    return run.load(tmp_path / "tiny")


def test_folded_weights_are_taken_and_resumed(tiny_run, toy_data, tmp_path):
    settings = Settings(epochs=2, batch=16, rate=0.01, head_epochs=1)
    begin(toy_data, tmp_path / "a", settings, tiny_run.path).fit()
    settings = Settings(epochs=2, batch=16, rate=0.01)
    trainer = begin(toy_data, tmp_path / "b", settings, tmp_path / "a")
    first = run.load(tmp_path / "a").model.get_layer("conv").get_weights()
    assert len(first) == 2 and np.allclose(first[0], trainer.model.get_layer("conv").kernel)
    trainer.settings = replace(settings, epochs=1)
    trainer.fit()
    again = train.make_trainer(run.load(tmp_path / "b"), settings)
    assert again.progress.epoch == 1
    for a, b in zip(weights(trainer), weights(again), strict=True):
        assert (a == b).all()
    again.fit()
    trainer = begin(toy_data, tmp_path / "c", settings, tmp_path / "b")
    assert trainer.model.get_layer("conv").use_bias


def test_the_last_layer_is_kept_for_known_classes_only(tiny_run, toy_data, tmp_path, capsys):
    settings, classes = Settings(epochs=1, batch=16), tiny_run.classes
    old, random = (m.get_layer("logits").get_weights() for m in (tiny_run.model, tiny()))
    told = "has other classes: the layer 'logits' starts anew"
    for name, theirs, like in (
        ("order", classes[::-1], [w[..., ::-1] for w in old]),
        ("others", ["ennui", *classes[1:]], random),
    ):
        capsys.readouterr()
        tiny_run.update(classes=theirs)
        new = begin(toy_data, tmp_path / name, settings, tiny_run.path).model
        assert (told in capsys.readouterr().out) == (name == "others")
        kernels = [m.get_layer("conv").kernel.numpy() for m in (new, tiny_run.model)]
        assert (kernels[0] == kernels[1]).all()
        for got, expected, before in zip(
            new.get_layer("logits").get_weights(), like, old, strict=True
        ):
            assert (got == expected).all(), name
            assert not np.allclose(got, before, atol=1e-3), name


def test_the_last_layer_starts_anew_on_other_features(
    tiny_run, toy_data, tmp_path, monkeypatch, capsys
):
    def twice(*arguments, **options):
        found = tiny()
        x = found.get_layer("embedding").output
        x = keras.layers.Concatenate()([x, x])
        return keras.Model(found.inputs, keras.layers.Dense(8, dtype="float32", name="logits")(x))

    monkeypatch.setattr(train, "build", twice)
    settings = Settings(epochs=1, batch=16)
    new = begin(toy_data, tmp_path / "other", settings, tiny_run.path).model
    assert "has other features: the layer 'logits' starts anew" in capsys.readouterr().out
    old = tiny_run.model.get_layer("conv").kernel.numpy()
    assert (new.get_layer("conv").kernel.numpy() == old).all()


def test_weights_of_a_run_that_saw_our_test_pictures_are_refused(toy_run, toy_source, tmp_path):
    again = tmp_path / "data"
    prepare.prepare(toy_source, again, 16, fractions="60/20/20", seed=1, workers=1)
    with pytest.raises(UserError, match=r"was trained on \d+ pictures that .* keeps for dev or"):
        train.start("resnet18", again, tmp_path / "r", Settings(epochs=1, width=8),
                    weights=str(toy_run.path))  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_stopped_in_the_first_epoch_goes_on_from_there_and_not_from_the_weights(
    tiny_run, toy_data, tmp_path, monkeypatch
):
    settings = Settings(epochs=1, batch=16, rate=0.01, deterministic=True)
    rate = fit.Trainer._rate

    def stop_in_step_two(trainer):
        if trainer.progress.step == 1:
            for _ in range(2):  # as timeout(1) does
                os.kill(os.getpid(), signal.SIGTERM)
        return rate(trainer)

    whole, part = tmp_path / "whole", tmp_path / "part"
    begin(toy_data, whole, settings, tiny_run.path).fit()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit.Trainer, "_rate", stop_in_step_two)
        begin(toy_data, part, settings, tiny_run.path).fit()
    assert train.resume(str(part)) == 0
    states = [np.load(folder / "last/state.npz") for folder in (whole, part)]
    for name in set(states[0].files) - {"progress"}:
        assert (states[0][name] == states[1][name]).all(), name
