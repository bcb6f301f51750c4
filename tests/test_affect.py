"""Valence and arousal: figures, losses, and a head that learns them."""

import csv
import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.svm import SVR
from tools import command

from deepconnotation import affect, affect_probe, ensemble, losses, predict, run, train
from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.data import manifest, prepare
from deepconnotation.data.sources import Options, read
from deepconnotation.embeddings import Embeddings
from deepconnotation.settings import Settings


def test_figures_by_hand():
    """x 0 0 1 1 against y 0 .5 .5 1: means .5, variances .25 and .125, covariance .125."""
    x, y = np.array([0.0, 0, 1, 1]), np.array([0.0, 0.5, 0.5, 1])
    found = affect.figures(x, y, np.ones((1, 4)))
    assert found["ccc"] == pytest.approx(0.25 / 0.375)
    assert found["rmse"] == pytest.approx(np.sqrt(0.5 / 4))
    assert found["sagr"] == pytest.approx(0.75)
    twice = affect.figures(x, y, np.array([[1.0, 2, 1, 0]]))
    again = affect.figures(x[[0, 1, 1, 2]], y[[0, 1, 1, 2]], np.ones((1, 4)))
    assert all(twice[name] == pytest.approx(again[name]) for name in affect.FIGURES)
    constant = affect.figures(np.ones(4), np.ones(4), np.ones((1, 4)))
    assert constant["ccc"] == 0


def test_ccc_is_the_correlation_times_what_scale_and_place_cost():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.4, 500)
    y = 0.5 * x + 0.1 + rng.normal(0, 0.1, 500)
    v, u = x.std() / y.std(), (x.mean() - y.mean()) / np.sqrt(x.std() * y.std())
    expected = np.corrcoef(x, y)[0, 1] * 2 / (v + 1 / v + u**2)  # Lin 1989
    assert affect.figures(x, y, np.ones((1, 500)))["ccc"] == pytest.approx(expected)


def test_missing_values_and_groups():
    true = np.array([[0.5, np.nan], [-0.5, np.nan], [0.1, np.nan], [np.nan, np.nan]])
    predicted = np.array([[0.4, 0], [-0.6, 0], [0.0, 0], [0.9, 0]])
    found = affect.summarise(true, predicted, ["", "", "", ""])
    known = affect.figures(true[:3, 0], predicted[:3, 0], np.ones((1, 3)))
    assert found["valence"]["ccc"]["value"] == pytest.approx(known["ccc"][0])
    assert found["valence"]["pictures"] == 3 and found["arousal"] == {"pictures": 0}
    assert found["valence"]["rmse"]["low"] == pytest.approx(0.1)  # every error is .1
    assert "CCC" in affect.as_text(found)
    rng = np.random.default_rng(0)
    one = rng.normal(size=(30, 2))
    other = one + rng.normal(size=(30, 2))
    alone = affect.summarise(one, other, [""] * 30)["valence"]["ccc"]
    fives = affect.summarise(np.repeat(one, 5, 0), np.repeat(other, 5, 0),
                             [str(i) for i in range(30) for _ in range(5)])["valence"]["ccc"]
    assert fives["value"] == pytest.approx(alone["value"])
    assert fives["high"] - fives["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.2)


@pytest.mark.parametrize(
    ("kind", "expected"), [("l1", 0.75 / 3), ("l2", (0.25 + 0.0625) / 3), ("ccc", 1 - 0.8)]
)
def test_losses_by_hand_and_missing_values_change_nothing(kind, expected):
    """Valence 0, 1 told as 0, .5: CCC 2 * .125 / (.25 + .0625 + .0625) = 2/3 before the third."""
    true = np.array([[0, np.nan], [1, np.nan], [np.nan, 0.5]], np.float32)
    told = tf.constant([[0, 0.3], [0.5, -0.2], [0.9, 0.75]], tf.float32)
    if kind == "ccc":
        expected = 1 - 2 * 0.125 / (0.25 + 0.0625 + 0.0625)
    with tf.GradientTape() as tape:
        tape.watch(told)
        loss = losses.affect_loss(kind, tf.constant(true), told)
    gradient = tape.gradient(loss, told).numpy()
    assert loss.numpy() == pytest.approx(expected, abs=1e-6)
    assert np.isfinite(gradient).all() and (gradient[np.isnan(true)] == 0).all()
    assert np.abs(gradient[:, 0]).max() > 0
    nothing = losses.affect_loss(kind, tf.fill((3, 2), np.nan), told)
    assert nothing.numpy() == 0


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Stripes: valence is how bright they are, arousal how strong; a tenth is not rated."""
    folder = tmp_path_factory.mktemp("rated")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    with open(folder / "ratings.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "category", "valence", "arousal"])
        for number in range(400):
            light, strength = rng.random(2)
            wave = np.sin(np.arange(32) / rng.uniform(1, 3) + rng.uniform(0, 6))
            pixels = 60 + 130 * light + 60 * strength * wave[None, :, None] + np.zeros((32, 1, 3))
            pixels = pixels + rng.normal(0, 6, pixels.shape)
            name = f"{number}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
            values = [f"{1 + 6 * v:.3f}" for v in (light, strength)]
            category = ("Animals", "Objects", "People", "Scenery")[number % 4]
            table.writerow([name, category, *(values if number % 10 else ["", ""])])
    return folder


@pytest.fixture(scope="module")
def rated_run(rated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("affect")
    source = read("oasis", [rated], Options())
    prepare.prepare(source, folder / "data", 32, fractions="60/20/20", workers=1)
    settings = Settings(epochs=8, batch=16, rate=2e-3, optimizer="adam", affect="ccc",
                        affect_share=0.9, monitor="val_ccc", precision="float32", test_flip=True,
                        shift=0)  # fmt: skip
    assert train.start("small_cnn", folder / "data", folder / "run", settings) == 0
    return run.load(folder / "run")


def test_ratings_are_read_and_scaled(rated, rated_run):
    table = manifest.read(rated_run.config["data"]["path"]).set_index("source")
    ratings = pd.read_csv(rated / "ratings.csv").set_index("file")
    assert len(table) == 400 and {*table["label"]} == {"animals", "objects", "people", "scenery"}
    assert table.loc["10.png", "valence"] == ""
    expected = (ratings.loc["7.png", "valence"] - 4) / 3
    assert float(table.loc["7.png", "valence"]) == pytest.approx(expected, abs=1e-5)


def test_the_head_learns_known_values(rated_run):
    figures = json.loads((rated_run.path / "metrics.json").read_text())["affect"]
    for name in affect.NAMES:
        assert figures[name]["ccc"]["value"] >= 0.8
        assert figures[name]["ccc"]["low"] <= figures[name]["ccc"]["value"]
    history = pd.read_csv(rated_run.path / "history.csv")
    assert history["val_ccc"].idxmax() + 1 == rated_run.config["best_epoch"]
    page = (rated_run.path / "report.html").read_text()
    assert "circumplex, as rated and as predicted" in page


def test_another_run_starts_from_its_weights_where_they_fit(rated_run, capsys):
    old, new = rated_run.model, keras.models.clone_model(rated_run.model)
    features = new.get_layer("embedding").output
    features = keras.layers.Concatenate()([features, features])
    heads = [keras.layers.Dense(units, name=name)(features)
             for name, units in (("logits", 4), ("affect", 2))]  # fmt: skip
    there = {layer.name: layer.get_weights() for layer in old.layers if layer.weights}
    config = {"arch": "small_cnn", "weights": {"run": str(rated_run.path)}}
    for model, anew in ((new, set()), (keras.Model(new.input, heads), {"logits", "affect"})):
        train._load_weights(model, config, rated_run.classes)
        taken = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
        other = {name for name, weights in there.items()
                 if not all(map(np.array_equal, weights, taken[name]))}  # fmt: skip
        assert taken.keys() == there.keys() and other == anew
        said = capsys.readouterr().out
        assert {name for name in there if f"the layer {name!r} starts anew" in said} == anew


def test_predictions_tell_them_too(rated_run, tmp_path):
    rows = pd.read_csv(rated_run.path / "predictions.csv", dtype={"id": str})
    row = rows.iloc[0]
    data = rated_run.config["data"]["path"]
    file = manifest.read(data).set_index("id").loc[row["id"], "file"]
    picture = f"{data}/{file}"
    done = command("predict", rated_run.path, picture, "--csv")
    told = pd.read_csv(StringIO(done.stdout)).iloc[0]
    for name in affect.NAMES:
        assert told[name] == pytest.approx(row[name], abs=1e-4)
    assert f"valence {row['valence']:+.2f}" in command("predict", rated_run.path, picture).stdout
    with pytest.raises(UserError, match="two runs"):
        ensemble.check([rated_run])
    both = ensemble.ensemble([rated_run, rated_run], tmp_path / "both")
    images = np.zeros((2, 32, 32, 3), np.float32)
    assert np.allclose(both.model(images)[1], rated_run.model(images)[1], atol=1e-5)


def test_a_regression_on_embeddings_beside_them(rated_run, tmp_path, monkeypatch, capsys):
    data, out = rated_run.config["data"]["path"], tmp_path / "embedded"
    done = command("embed", rated_run.path, "--data", data, "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads((out / "affect-metrics.json").read_text())
    assert figures["valence"]["ccc"]["value"] >= 0.8
    assert f"CCC {figures['valence']['ccc']['value']:.3f}" in done.stdout
    whole, drawn = figures["rated"], figures["rated"] // 2
    assert figures["learned_from"] == whole
    monkeypatch.setattr(affect_probe, "MOST", drawn)  # a kernel of AffectNet's 290,000 fits nowhere
    found = Embeddings.of(out, data)
    half = affect_probe.probe(found, affect.values(found.table()))
    assert f"learned from {drawn} of {whole} rated pictures:" in capsys.readouterr().out
    assert half["valence"]["ccc"] != figures["valence"]["ccc"]
    assert half["valence"]["ccc"]["value"] >= 0.5


def test_cross_validation_never_sees_a_group_and_stretches_to_the_true_spread():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 6)).astype(np.float32)
    values = np.tanh(rows[:, :2] / 2 + rng.normal(0, 0.4, (300, 2)))
    values[::7, 1] = np.nan
    groups = np.array([f"{i}" for i in range(300)])
    told = affect_probe.cross_validate(rows, values, groups)
    for axis in range(2):
        known = np.isfinite(values[:, axis])
        assert told[known, axis].std() == pytest.approx(values[known, axis].std(), rel=0.15)
    noise = rng.normal(size=(100, 2)) / 3  # told only by a twin in the same group
    twice = np.concatenate([rng.normal(size=(100, 6))] * 2).astype(np.float32)
    told = affect_probe.cross_validate(twice, np.tile(noise, (2, 1)), np.tile(groups[:100], 2))
    assert np.corrcoef(told[:100, 0], noise[:, 0])[0, 1] < 0.4


def test_several_encoders_share_a_mean_of_gaussian_kernels():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(120, 7)).astype(np.float32)
    values = np.tanh(rows[:, :2] + rng.normal(0, 0.2, (120, 2)))
    groups, train, asked = np.arange(100), slice(0, 100), slice(100, 120)
    told = affect_probe.fit_predict(rows[train], values[train], groups, rows[asked], (5, 2))

    kernel = 0
    for part in (rows[:, :5], rows[:, 5:]):
        part = (part - part[train].mean(0)) / part[train].std(0)
        part = part / np.linalg.norm(part, axis=1, keepdims=True)
        kernel = kernel + np.exp(-((part[:, None] - part[None]) ** 2).sum(-1)) / 2
    svr = SVR(kernel="precomputed", C=3.0, epsilon=0.05).fit(kernel[train, train], values[train, 0])
    by_hand = svr.predict(kernel[asked, train])
    assert np.corrcoef(told[:, 0], by_hand)[0, 1] > 0.9999  # but for the stretch


def test_what_cannot_work_is_refused(toy_data, rated, tmp_path):
    with pytest.raises(UserError, match="mixed pictures"):
        Settings(affect="l2", mixup=0.2).check()
    with pytest.raises(UserError, match="--monitor val_ccc"):
        Settings(monitor="val_ccc").check()
    with pytest.raises(UserError, match="tells no valence"):
        train.start("resnet18", toy_data, tmp_path / "a", Settings(affect="l1", width=4))
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "ratings.csv").write_text("file,category,valence,arousal\na.jpg,People,9,2\n")
    with pytest.raises(UserError, match="row 2: valence '9': expected a number from 1 to 7"):
        read("oasis", [bad], Options())


@pytest.fixture(scope="module")
def alone(rated_run, tmp_path_factory):
    """A run that learned valence and arousal alone: its classes are as they began."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    settings = Settings(epochs=1, batch=32, affect="ccc", affect_share=1, monitor="val_ccc",
                        precision="float32")  # fmt: skip
    assert train.start("small_cnn", rated_run.config["data"]["path"], folder, settings) == 0
    return run.load(folder)


def test_classes_that_were_not_learned_are_not_told(alone, rated_run, rated, tmp_path):
    figures = json.loads((alone.path / "metrics.json").read_text())
    assert "accuracy" not in figures and figures["images"] > 0
    assert set(figures["affect"]["valence"]) == {"pictures", *affect.FIGURES}
    answers = pd.read_csv(alone.path / "predictions.csv")
    assert [*answers] == ["id", "source", "group", "label", *affect.NAMES]
    page = (alone.path / "report.html").read_text()
    card = (alone.path / "card.md").read_text()
    valence = f"{figures['affect']['valence']['ccc']['value']:.3f}"
    for text in (page, card):
        assert "How pleasant (valence) and how stirring (arousal)" in text
        assert f"{valence} (" in text and not re.search("ccuracy|recall|always", text)
    notice = "This page contains pictures of the data set"
    assert notice not in page and notice in (rated_run.path / "report.html").read_text()
    for form in ("--csv", "--json", None):
        words = [alone.path, rated / "images/1.png", *[form] * bool(form)]
        said = command("predict", *words).stdout
        assert "valence" in said and "arousal" in said
        assert not any(word in said for word in ("animals", "label", "confidence", "p_"))


def test_the_page_tells_valence_and_arousal(alone, rated_run, rated, tmp_path):
    pytest.importorskip("gradio", reason="the extra [demo] is not installed")
    from deepconnotation.demo_page import Page

    picture = str(rated / "images/1.png")
    for found in (alone, rated_run):
        page = Page(found, tmp_path)
        words, bars, point, _ = page.answer(picture)
        _, _, listed, _ = page.answer_all([picture, str(rated / "ratings.csv")])
        assert point is not None and (bars is None) == (found is alone)
        assert ("valence" in words) == (found is alone)
        row, other = listed.to_dict("records")
        told = next(predict.predict(found, [Path(picture)]))
        assert [row[axis] for axis in found.axes] == [f"{told[axis]:+.2f}" for axis in found.axes]
        assert ("answer" in row) == (found is rated_run)
        assert other["remark"] and not other["valence"]


def test_what_needs_classes_is_refused(alone, rated_run, tmp_path):
    picture, out = tmp_path / "1.png", tmp_path / "out"
    for words in (
        ["explain", alone.path, picture],
        ["export", alone.path, "--to", "onnx"],
        ["evaluate", alone.path, "--by", "size"], ["evaluate", alone.path, alone.path],
        ["pseudo", alone.path, "--data", out, "--more", out, "--out", out],
    ):  # fmt: skip
        done = command(*words)
        assert done.returncode == 2 and "valence and arousal alone" in done.stderr, words
    with pytest.raises(UserError, match="one learned classes"):
        ensemble.check([rated_run, alone])
    with pytest.raises(UserError, match="--monitor val_loss: --affect-share 1 learns no classes"):
        Settings(affect="l2", affect_share=1).check()
