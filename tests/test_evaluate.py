"""Evaluation and report of a trained run."""

import base64
import json
import os
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from tools import tool

from deepconnotation import card, ensemble, evaluate, page, predict, predictions, report, run, train
from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.data import manifest, pipeline
from deepconnotation.settings import Settings


def test_figures_are_those_of_the_saved_predictions(toy_run, toy_data):
    figures = json.loads((toy_run.path / "metrics.json").read_text())
    rows = pd.read_csv(toy_run.path / "predictions.csv")
    part = pipeline.load(toy_data, "test")
    assert sorted(rows["id"]) == sorted(part.table["id"]) and figures["images"] == len(rows) == 16
    assert figures["accuracy"]["value"] == (rows["label"] == rows["predicted"]).mean()
    expected = balanced_accuracy_score(rows["label"], rows["predicted"])
    assert figures["balanced_accuracy"]["value"] == pytest.approx(expected)
    probabilities = rows[[f"p_{c}" for c in toy_run.classes]].to_numpy()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert [toy_run.classes[i] for i in probabilities.argmax(axis=1)] == rows["predicted"].tolist()
    # Independent of our batching: Keras' own predict over the same pixels.
    logits = toy_run.model.predict(np.asarray(part.images), verbose=0)
    by_id = rows.set_index("id").loc[part.table["id"], "predicted"]
    assert [toy_run.classes[i] for i in logits.argmax(axis=1)] == by_id.tolist()


def test_mirror_images_are_averaged(toy_run, toy_data, tmp_path):
    """Evaluation, prediction and Keras' own predict agree on the mean of two probabilities."""
    settings = {**toy_run.config["settings"], "test_flip": True}
    # Of its own folder: predict leaves a model.tflite there, which would not be the toy run's.
    folder = shutil.copytree(toy_run.path, tmp_path / "run")
    flipping = run.Run(folder, {**toy_run.config, "settings": settings, "temperature": 1.0})
    part = pipeline.load(toy_data, "test")
    images = np.asarray(part.images)
    as_it_is, mirrored = (
        np.asarray(keras.ops.softmax(toy_run.model.predict(pixels, verbose=0)))
        for pixels in (images, images[:, :, ::-1])
    )
    mean = (as_it_is + mirrored) / 2
    assert not np.allclose(mean, as_it_is, atol=1e-3)
    assert np.allclose(evaluate.predict_split(flipping, part)[0], mean, atol=1e-5)
    path = tmp_path / "picture.png"
    Image.fromarray(images[0]).save(path)
    (row,) = predict.predict(flipping, [path])
    assert np.allclose(row["probabilities"], mean[0], atol=1e-5)


def test_report_is_one_page_with_all_that_is_in_it(toy_run):
    page = (toy_run.path / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page) and "<script" not in page
    pictures = re.findall(r"<img ([^>]*)>", page)
    assert len(pictures) >= 3
    assert all(re.search(r'alt="[^"]+"', p) and 'src="data:image/' in p for p in pictures)
    for words in ("drawn by the program", "95 % interval", "majority", "Limits", "viewport"):
        assert words in page
    assert all(c in page for c in toy_run.classes)


def test_figures_show_letters_of_every_script(recwarn):
    """Matplotlib's own font has no Chinese; the browser that shows the page has."""
    figure = Figure()
    figure.text(0.5, 0.5, "喜悦")
    image = page.figure_image(figure, "a figure")
    drawn = base64.b64decode(re.search(r"data:image/svg\+xml;base64,([^\"]+)", image)[1])
    assert "喜悦" in "".join(ElementTree.fromstring(drawn).itertext()) and not recwarn.list
    assert page.figure_image(figure, "a figure") == image


def test_card_says_what_the_report_says(toy_run):
    words = (toy_run.path / "card.md").read_text()
    figures = json.loads((toy_run.path / "metrics.json").read_text())
    for heading in ("Model", "Intended use", "Misuse", "Data", "Figures", "Limits"):
        assert f"\n## {heading}\n" in words
    f = figures["accuracy"]
    assert f"| accuracy | {f['value']:.3f} | {f['low']:.3f} to {f['high']:.3f} |" in words
    assert "drew itself" in words and "differs from viewer to viewer" in words
    assert toy_run.config["command"] in words and "None" not in words


def test_card_of_faces(toy_run):
    figures = json.loads((toy_run.path / "metrics.json").read_text())
    config = {**toy_run.config, "emotion_set": "facial_expressions8 -contempt"}
    words = card.text(config, figures)
    assert "does not reveal what a person feels" in words and "see in a face" in words


def test_an_audit_of_the_data_is_in_the_report(toy_run, toy_data):
    page = (toy_run.path / "report.html").read_text()
    assert f"deepconnotation audit {toy_data}" in page
    done = tool("audit.py", toy_data)
    assert done.returncode == 0, done.stderr
    evaluate.evaluate(toy_run, toy_data)
    page = (toy_run.path / "report.html").read_text()
    assert "leakage              none" in page


def test_report_escapes_text(toy_run):
    page = report.escape('<img src=x onerror="alert(1)">')
    assert "<" not in page and '"' not in page


def test_dev_evaluation_leaves_the_test_figures_alone(toy_run, toy_data, capsys):
    before = {p.name: p.read_bytes() for p in toy_run.path.iterdir() if p.is_file()}
    evaluate.main([str(toy_run.path), "--split", "dev"])
    out, said = capsys.readouterr()
    assert re.search(r"pictures: (\d+)/\1 \(", said)
    assert "drawn pictures: not an emotion result" in out and "majority" in out
    for name, content in before.items():
        assert (toy_run.path / name).read_bytes() == content
    assert json.loads((toy_run.path / "metrics-dev.json").read_text())["split"] == "dev"


def test_a_run_that_may_only_be_read_is_refused_before_the_work(toy_run, toy_data, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may always
    monkeypatch.delattr(evaluate, "predict_split")
    with pytest.raises(UserError, match="nothing can be written there"):
        evaluate.evaluate(toy_run, toy_data, evaluate.Part("dev"))


def test_another_order_of_classes_is_refused(toy_run, toy_data, tmp_path):
    info = manifest.read_info(toy_data)
    mixed = manifest.DatasetInfo(**{**vars(info), "classes": info.classes[::-1]})
    manifest.write(tmp_path, manifest.to_csv(manifest.read(toy_data)), mixed)
    with pytest.raises(UserError, match="was trained on amusement, anger"):
        evaluate.evaluate(toy_run, tmp_path)
    small = manifest.DatasetInfo(**{**vars(info), "height": 32, "width": 32})
    manifest.write(tmp_path, manifest.to_csv(manifest.read(toy_data)), small)
    with pytest.raises(UserError, match="takes 16x16"):
        evaluate.evaluate(toy_run, tmp_path)


def test_spreadsheet_formulas_are_text():
    assert predictions.spreadsheet_safe("=1+1.jpg") == "'=1+1.jpg"
    assert predictions.spreadsheet_safe("a=1.jpg") == "a=1.jpg"


def test_names_that_look_like_numbers_formulas_or_nothing_are_read_as_they_were(tmp_path):
    classes = ["0", "01", "null", "None", "-1"]
    written = predictions.prediction_table(
        pd.DataFrame({"id": ["3", "02", "1", "0", "@4"], "label": classes}), np.eye(5), classes
    )
    assert written.iloc[4][["id", "label", "predicted"]].tolist() == ["'@4", "'-1", "'-1"]
    written.to_csv(tmp_path / "predictions.csv", index=False)
    found = predictions.read(tmp_path / "predictions.csv", ("id", "label", "predicted"), "again")
    assert found.to_numpy().tolist() == [
        ["0", "None", "None"], ["02", "01", "01"], ["1", "null", "null"], ["3", "0", "0"],
        ["@4", "-1", "-1"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": list("abc")}, "mixes two runs"),
        ({"input_shape": [32, 32, 3]}, "mixes two runs"),
        ({"model_sha256": "0" * 64}, "not the file that this run saved"),
    ],
)
def test_mixed_up_run_folders_are_refused(toy_run, tmp_path, change, message):
    (tmp_path / "model.keras").write_bytes((toy_run.path / "model.keras").read_bytes())
    (tmp_path / "run.json").write_text(json.dumps({**toy_run.config, **change}))
    with pytest.raises(UserError, match=message):
        run.load(tmp_path).model  # noqa: B018


class Foreign(keras.layers.Layer):
    """A layer that no package registers."""

    def call(self, x):
        return x


@pytest.mark.parametrize("layer", [lambda: keras.layers.Lambda(lambda x: x), Foreign])
def test_models_with_code_of_their_own_are_refused(toy_run, tmp_path, layer):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(layer()(inputs))
    keras.Model(inputs, keras.layers.Dense(8)(x)).save(tmp_path / "model.keras")
    digest = run.file_sha256(tmp_path / "model.keras")
    (tmp_path / "run.json").write_text(json.dumps({**toy_run.config, "model_sha256": digest}))
    with pytest.raises(UserError, match="model.keras: not a loadable model"):
        run.load(tmp_path).model  # noqa: B018


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}'])
def test_damaged_run_json_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match="run.json"):
        run.load(tmp_path)


def test_classes_merged_in_evaluation_are_sums(toy_run, toy_data):
    before = (toy_run.path / "metrics.json").read_bytes()
    merges = ["anger+fear", "awe+amusement"]
    evaluate.main([str(toy_run.path), "--merge", merges[0], "--merge", merges[1]])
    table = pd.read_csv(toy_run.path / "predictions.csv")
    merged = pd.read_csv(toy_run.path / "predictions-anger+fear-awe+amusement.csv")
    assert np.allclose(merged["p_anger+fear"], table["p_anger"] + table["p_fear"], atol=2e-6)
    columns = [c for c in merged.columns if c.startswith("p_")]
    assert columns[:2] == ["p_amusement+awe", "p_anger+fear"] and len(columns) == 6
    best = merged[columns].to_numpy().argmax(axis=1)
    into = {m: name for name in (c[2:] for c in columns) for m in name.split("+")}
    right = np.mean([into[y] == columns[i][2:] for y, i in zip(table["label"], best, strict=True)])
    figures = json.loads((toy_run.path / "metrics-anger+fear-awe+amusement.json").read_text())
    assert figures["accuracy"]["value"] == right
    assert figures["accuracy"]["majority"] == 0.25  # four of sixteen are anger or fear
    assert "amusement+awe, taken for" in (
        toy_run.path / "report-anger+fear-awe+amusement.html").read_text()  # fmt: skip
    assert (toy_run.path / "metrics.json").read_bytes() == before


def test_a_merged_answer_is_explained_by_its_likeliest_member(toy_run, toy_data, monkeypatch):
    explained = {}

    def grad_cam(model):
        return lambda images, classes: explained.update(
            zip(map(bytes, images), classes, strict=True)) or np.zeros(images.shape[:3])

    monkeypatch.setattr(report.heatmap, "grad_cam", grad_cam)
    evaluate.evaluate(toy_run, toy_data, evaluate.Part(merges=["anger+fear"]))
    table = pd.read_csv(toy_run.path / "predictions-anger+fear.csv").set_index("id")
    alone = pd.read_csv(toy_run.path / "predictions.csv").set_index("id")
    part = pipeline.load(toy_data, "test")
    assert len(explained) == len(part.labels)
    for picture, name in zip(part.images, part.table["id"], strict=True):
        members = [f"p_{member}" for member in table.loc[name, "predicted"].split("+")]
        expected = alone.loc[name, members].astype(float).idxmax()
        assert f"p_{toy_run.classes[explained[bytes(picture)]]}" == expected


def test_classes_merged_in_training(toy_data, tmp_path):
    settings = Settings(epochs=1, batch=16, precision="float32")
    train.start("small_cnn", toy_data, tmp_path / "run", settings, merges=["anger+fear"])
    found = run.load(tmp_path / "run")
    expected = ["amusement", "anger+fear", "awe", "contentment", "disgust", "excitement", "sadness"]
    assert found.classes == expected and found.model.output_shape == (None, 7)
    assert found.config["data"]["counts"]["train"]["anger+fear"] == 12
    table = pd.read_csv(tmp_path / "run/predictions.csv")
    figures = json.loads((tmp_path / "run/metrics.json").read_text())
    hits = [p == y or y in p.split("+")
            for p, y in zip(table["predicted"], table["label"], strict=True)]  # fmt: skip
    assert figures["accuracy"]["value"] == np.mean(hits)
    evaluate.evaluate(found, toy_data, evaluate.Part(merges=["anger+sadness"]))
    assert (tmp_path / "run/metrics-anger+sadness.json").exists()
    twice = ensemble.ensemble([found, found], tmp_path / "twice")  # dev knows the merged classes
    assert twice.temperature == pytest.approx(1, abs=0.02)
    with pytest.raises(UserError, match="merge 'anger': expected two or more classes"):
        train.start("resnet18", toy_data, tmp_path / "b", settings, merges=["anger"])
