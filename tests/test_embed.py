"""Embeddings, the linear probe on them, and a network that learns from the probe."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from deepconnotation import embed, embeddings, fit, probe, run, seen, train
from deepconnotation.backend import keras
from deepconnotation.console import UserError, alone_in
from deepconnotation.data import manifest, pipeline, prepare
from deepconnotation.models import embedding_mlp, registry
from deepconnotation.settings import Settings


@pytest.fixture(scope="module")
def embedded(toy_run, toy_data, tmp_path_factory):
    """The toy pictures through the toy run, with the probe."""
    folder = tmp_path_factory.mktemp("embedded") / "toy"
    with open(folder.parent / "said.txt", "w") as said, contextlib.redirect_stderr(said):
        embed.main([str(toy_run.path), "--data", str(toy_data), "--out", str(folder),
                    "--precision", "float32"])  # fmt: skip
    return folder


def test_every_long_step_shows_how_far_it_is(embedded):
    said = (embedded.parent / "said.txt").read_text()
    assert "pictures: 80/80 (" in said and "fits of the linear probe: 11/11 (" in said
    epochs = re.findall(r"epochs of the classifier at most: (\d+)/1000 ", said)
    assert 20 < int(epochs[-1]) < 1000  # it stops by itself; a slow machine says more than once


def test_bfloat16_rounds_and_no_more(embedded, toy_run, toy_data, tmp_path):
    embed.embed(str(toy_run.path), toy_data, tmp_path / "b", precision="mixed_bfloat16")
    exact, rounded = (embeddings.load(folder)[1] for folder in (embedded, tmp_path / "b"))
    assert 0 < np.abs(exact - rounded).max() < 0.03 * np.abs(exact).max()
    with pytest.raises(UserError, match="in float32; choose another folder"):
        embed.embed(str(toy_run.path), toy_data, embedded, precision="mixed_bfloat16")


def test_another_layer_is_averaged_over_the_picture(toy_run, toy_data, tmp_path):
    name = next(la.name for la in reversed(toy_run.model.layers) if len(la.output.shape) == 4)
    embed.embed(str(toy_run.path), toy_data, tmp_path, precision="float32", layer=name)
    rows = embeddings.load(tmp_path)[1]
    images = pipeline.load(toy_data, "train").images[:4]
    maps = keras.Model(toy_run.model.input, toy_run.model.get_layer(name).output)
    assert np.allclose(rows[:4], np.mean(maps(images), axis=(1, 2)), atol=1e-4)
    with pytest.raises(UserError, match=f"nearest: {name}"):
        embed.embed(str(toy_run.path), toy_data, tmp_path, layer=name + "x")
    with pytest.raises(UserError, match=f"{name}.*choose another folder"):
        embed.embed(str(toy_run.path), toy_data, tmp_path, precision="float32")


def test_rows_are_the_models_embeddings_in_the_order_of_ids(embedded, toy_run, toy_data):
    ids, rows, config = embeddings.load(embedded)
    table = manifest.read(toy_data).set_index("id").loc[ids["id"]]
    assert len(table) == len(rows) == 80 and (table["label"].values == ids["label"].values).all()
    assert (table["split"].values == ids["split"].values).all() and config["units"] == 64
    layer = toy_run.model.get_layer("embedding").output
    backbone = keras.Model(toy_run.model.input, layer)
    for i in (0, 50, 79):  # one at a time, straight from the file
        picture = keras.utils.load_img(toy_data / table["file"].iloc[i])
        expected = backbone(np.asarray(picture, np.float32)[None])[0]
        assert np.allclose(rows[i], expected, atol=1e-4)


def test_probe_is_scikit_learns(embedded, toy_run):
    ids, rows, _ = embeddings.load(embedded)
    figures = json.loads((embedded / "metrics.json").read_text())
    fit_rows, test = (np.flatnonzero(ids["split"] == s) for s in ("train", "test"))
    scale = StandardScaler().fit(rows[fit_rows])
    model = LogisticRegression(C=figures["C"], max_iter=2000)
    model.fit(scale.transform(rows[fit_rows]), ids["label"].iloc[fit_rows])
    expected = model.predict_proba(scale.transform(rows[test]))
    table = pd.read_csv(embedded / "predictions.csv")
    assert table["id"].tolist() == ids["id"].iloc[test].tolist()
    ours = table[[f"p_{c}" for c in model.classes_]].to_numpy()
    assert np.allclose(ours, expected, atol=0.01)
    assert figures["accuracy"]["value"] == (table["label"] == table["predicted"]).mean()


def test_the_classifier_beside_the_probe(embedded):
    ids, rows, _ = embeddings.load(embedded)
    figures = json.loads((embedded / "mlp-metrics.json").read_text())
    table = pd.read_csv(embedded / "mlp-predictions.csv")
    assert table["id"].tolist() == ids.loc[ids["split"] == "test", "id"].tolist()
    assert figures["accuracy"]["value"] == (table["label"] == table["predicted"]).mean()
    model = keras.saving.load_model(embedded / "mlp.keras", safe_mode=True)
    logits = np.asarray(model(rows[ids["split"] == "test"]))
    ours = table[[c for c in table.columns if c.startswith("p_")]].to_numpy()
    assert np.allclose(ours, softmax(logits, axis=1), atol=1e-5)
    train = rows[ids["split"] == "train"]
    used = train.std(axis=0) > 1e-3
    assert used.sum() > 32
    scaled = (train - train.mean(axis=0))[:, used] / train.std(axis=0)[used]
    normalised = np.asarray(model.get_layer("normalise")(train))
    assert np.allclose(normalised[:, used], scaled, atol=1e-3)


def test_the_originals_classifier():
    """Facts B: 1024-25-12-8, ReLU, Xavier, zero biases."""
    model = embedding_mlp.build(1024, 8)
    assert model.count_params() == 1025 * 25 + 26 * 12 + 13 * 8 == 26_041
    assert f"{26_041:,}" in embedding_mlp.__doc__
    for layer, inputs in zip(model.layers[1:], (1024, 25, 12), strict=True):
        kernel, bias = layer.get_weights()
        limit = np.sqrt(6 / (inputs + len(bias)))  # Glorot and Bengio 2010
        assert 0.9 * limit < np.abs(kernel).max() <= limit and not bias.any()
    assert [layer.activation.__name__ for layer in model.layers[1:]] == ["relu", "relu", "linear"]


def test_training_pictures_are_answered_by_probes_that_did_not_see_them():
    """Random labels on many features: a probe that had seen a picture, or its group's other one,
    would know its label."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100, 300)).repeat(2, axis=0)
    labels = rng.integers(0, 2, 100).repeat(2)
    groups = np.arange(100).repeat(2).astype(str)
    found = probe._out_of_fold(0.03, rows, labels, groups)
    assert 0.25 < (found.argmax(axis=1) == labels).mean() < 0.75
    alone = np.arange(200).astype(str)
    assert (probe._out_of_fold(0.03, rows, labels, alone).argmax(axis=1) == labels).mean() > 0.75


def test_killed_and_given_again_the_array_is_equal(
    toy_run, toy_data, embedded, tmp_path, monkeypatch
):
    command = [sys.executable, "-c", (
        "import sys; from pathlib import Path; from deepconnotation import embed\n"
        "embed.BATCH, embed.SAVE_EVERY = 4, 1\n"
        "run, data, out = sys.argv[1:]\n"
        "embed.embed(run, Path(data), Path(out), precision='float32')"
    ), toy_run.path, toy_data, tmp_path / "killed"]  # fmt: skip
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "killed/embed.json"
    while job.poll() is None and not state.exists():
        time.sleep(0.001)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert 0 < json.loads(state.read_text())["done"] < 80, "killed too late"
    monkeypatch.setattr(embed, "BATCH", 4)
    embed.embed(str(toy_run.path), toy_data, tmp_path / "killed", precision="float32")
    found, expected = (embeddings.load(folder) for folder in (tmp_path / "killed", embedded))
    assert found[0].equals(expected[0]) and np.allclose(found[1], expected[1], atol=1e-5)


def test_what_does_not_fit_is_refused(embedded, toy_run, toy_source, toy_data, tmp_path):
    with alone_in(embedded), pytest.raises(UserError, match="another process is at work there"):
        embed.embed(str(toy_run.path), toy_data, embedded)
    with pytest.raises(UserError, match="neither a run folder nor an architecture"):
        embed.embed("vgg99", toy_data, tmp_path / "a")
    with pytest.raises(UserError, match="there are none for --arch resnet18"):
        embed.embed("resnet18", toy_data, tmp_path / "a")
    with pytest.raises(UserError, match="holds embeddings of .*toy"):
        embed.embed("efficientnet_lite0", toy_data, embedded)
    with pytest.raises(UserError, match="a run exists already there"):  # and has metrics.json, too
        embed.embed("efficientnet_lite0", toy_data, toy_run.path)
    larger = tmp_path / "larger"
    prepare.prepare(toy_source, larger, 24, workers=1)
    with pytest.raises(UserError, match="takes 16x16 pixels, the data set has 24x24"):
        embed.embed(str(toy_run.path), larger, tmp_path / "a")
    with pytest.raises(UserError, match="expected the output of embed"):
        embeddings.load(tmp_path / "none")
    with pytest.raises(UserError, match="--teacher .* was fitted on other pictures"):
        train.start("resnet18", larger, tmp_path / "r", Settings(epochs=1, width=4),
                    teacher=str(embedded))  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_what_a_teacher_learned_from_is_told(toy_run, embedded, elsewhere, tmp_path):
    teacher = str(embedded)
    found = train.new_run("small_cnn", elsewhere, tmp_path / "r", Settings(), teacher=teacher)
    licence = toy_run.config["data"]["licence"]
    sources = ["elsewhere (licence: CC0)", f"toy (licence: {licence})"]
    assert seen.data_sets(found.config) == sources


def test_targets_are_the_blend_of_label_and_teacher(toy_data, embedded, toy_run, tmp_path):
    part = pipeline.load(toy_data, "train")
    table = pd.read_csv(embedded / "predictions-train.csv").set_index("id")
    settings = Settings(epochs=1, batch=16, teacher_share=0.75)
    taught = train._taught(str(embedded), part, toy_run.classes)
    trainer = fit.Trainer(toy_run, toy_run.model, settings, part, None, taught)
    for i in (0, 7, 40):
        row = table.loc[part.table["id"].iloc[i]]
        expected = [0.75 * row[f"p_{c}"] + 0.25 * (row["label"] == c) for c in toy_run.classes]
        assert trainer.targets[i] == pytest.approx(expected, abs=1e-5)


def test_a_teacher_whose_answers_are_gone_or_damaged_is_refused(toy_data, embedded, tmp_path):
    teacher = shutil.copytree(embedded, tmp_path / "teacher")
    answers = teacher / "predictions-train.csv"
    table = pd.read_csv(answers, dtype=str)
    classes = [name[2:] for name in table if name.startswith("p_")]
    part = pipeline.load(toy_data, "train")
    for damage, message in (
        (lambda: table[1:].to_csv(answers, index=False), "damaged .*embed command again"),
        (lambda: table.drop(columns="p_fear").to_csv(answers, index=False), "damaged .*p_fear"),
        (lambda: table.assign(p_fear="x").to_csv(answers, index=False), "damaged .*'x'"),
        (answers.unlink, "no such file; give the embed command again"),
    ):
        damage()
        with pytest.raises(UserError, match=message):
            train._taught(str(teacher), part, classes)


def test_a_network_learns_what_its_teacher_says(toy_data, embedded, toy_run, tmp_path):
    """A teacher that calls every picture fear is believed when the labels count for nothing."""
    part = pipeline.load(toy_data, "train")
    liar = np.eye(8)[[toy_run.classes.index("fear")] * len(part.labels)]
    settings = Settings(epochs=12, batch=16, rate=0.05, teacher_share=1.0)
    model = registry.build("resnet18", (16, 16, 3), 8, width=4)
    names = set(run.REQUIRED) - {"format", "state"}
    found = run.create(tmp_path / "r", {name: toy_run.config[name] for name in names})
    fit.Trainer(found, model, settings, part, None, liar, say=lambda line: None).fit()
    predicted = np.asarray(found.model(np.asarray(part.images, np.float32))).argmax(axis=1)
    assert (predicted == toy_run.classes.index("fear")).mean() > 0.9


def test_the_teacher_is_named_in_the_run_and_its_report(toy_data, embedded, tmp_path):
    settings = Settings(epochs=1, batch=16, rate=0.01)
    train.start("small_cnn", toy_data, tmp_path / "r", settings, teacher=str(embedded))
    assert run.load(tmp_path / "r").config["teacher"]["folder"] == str(embedded)
    assert "a linear probe on" in (tmp_path / "r/report.html").read_text()
