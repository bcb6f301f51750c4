"""Exports: equal answers by each runtime, class names inside, and examples that run."""

import functools
import json
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax
from tools import command

from deepconnotation import evaluate, export, litert, predict, run, train
from deepconnotation.console import UserError
from deepconnotation.data import manifest, pipeline, prepare
from deepconnotation.data.sources import toy
from deepconnotation.export_forms import _rounded
from deepconnotation.settings import Settings

for package in ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert"):
    pytest.importorskip(package, reason="the extra [export] is not installed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that learned something, in bfloat16, with mirror images and a temperature, and that
    tells valence and arousal."""
    top = tmp_path_factory.mktemp("export")
    data = top / "data"
    prepare.prepare(toy.read(top / "drawn", per_class=25), data, 24, fractions="40/10/50",
                    workers=1)  # fmt: skip
    table, rng = manifest.read(data), np.random.default_rng(0)
    table = table.assign(valence=rng.uniform(-1, 1, len(table)).round(3).astype(str), arousal="0.5")
    manifest.write(data, manifest.to_csv(table), manifest.read_info(data))
    settings = Settings(epochs=6, batch=16, width=8, rate=0.05, precision="mixed_bfloat16",
                        test_flip=True, affect="l2", affect_share=0.1)  # fmt: skip
    assert train.start("resnet18", data, top / "run", settings) == 0
    found = run.load(top / "run")
    assert found.temperature != 1
    return found


@pytest.fixture(scope="module")
def pictures(trained):
    """A hundred of its test pictures."""
    part = pipeline.load(trained.config["data"]["path"], "test")
    expected = evaluate.predict_split(trained, part)[0]
    return np.asarray(part.images[:100]), expected[:100]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A function from a form to its file and what asks it; each is made once."""
    return functools.cache(lambda form: export.export(trained, form, tmp_path_factory.mktemp(form)))


@pytest.mark.parametrize("form", ["keras", "savedmodel", "onnx", "litert"])
def test_answers_are_equal(exported, pictures, form):
    images, expected = pictures
    _, answer = exported(form)
    got = answer(images)
    assert np.array_equal(got.argmax(axis=1), expected.argmax(axis=1))
    assert np.allclose(got, expected, atol=1e-4)
    assert np.allclose(answer(images[:1]), expected[:1], atol=1e-4)


def test_eight_bits_answer_nearly_alike(exported, pictures):
    images, expected = pictures
    path, answer = exported("int8")
    assert (answer(images).argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95
    assert path.stat().st_size < 0.6 * exported("litert")[0].stat().st_size


@pytest.mark.parametrize("form", ["keras", "savedmodel", "onnx", "litert", "int8"])
def test_examples_tell_what_predict_tells(trained, exported, tmp_path, form):
    path, _ = exported(form)
    if form in ("keras", "litert", "int8"):
        with zipfile.ZipFile(path) as file:
            assert json.loads(file.read(export.INFO))["classes"] == trained.classes
    photo = tmp_path / "photo.jpg"
    Image.fromarray(toy.draw("fear", 3, 24)).save(photo, quality=95)
    words = [sys.executable, str(path.parent / f"example_{form}.py"), str(photo)]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    told = {name: float(p) for name, p in (line.split() for line in done.stdout.splitlines())}
    (row,) = predict.predict(trained, [photo])
    by_predict = dict(zip(trained.classes, row["probabilities"], strict=True))
    by_predict |= {name: row[name] for name in ("valence", "arousal")}
    assert told.keys() == by_predict.keys()
    margin = 0.1 if form == "int8" else 0.0015  # three decimals are printed
    assert all(abs(told[name] - p) < margin for name, p in by_predict.items())


def test_swish_has_a_saved_model(toy_run, toy_data, tmp_path):
    """Its gradient is one of its own, which TensorFlow cannot write once it is frozen."""
    from deepconnotation.backend import keras

    folder = shutil.copytree(toy_run.path, tmp_path / "run")
    pictures = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="silu")(pictures)
    x = keras.layers.GlobalAveragePooling2D()(x)
    run.save_model(keras.Model(pictures, keras.layers.Dense(8)(x)), folder / "model.keras")
    digest = run.file_sha256(folder / "model.keras")
    found = run.load(folder).update(model_sha256=digest)
    _, answer = export.export(found, "savedmodel", tmp_path)
    images = pipeline.load(toy_data, "test").images
    expected = softmax(found.model(np.asarray(images)).numpy() / found.temperature, axis=1)
    assert np.allclose(answer(images), expected, atol=1e-5)


def test_the_saved_model_takes_jpeg_files_of_any_size(trained, exported, tmp_path):
    """TensorFlow's own Lanczos, rounded once, is within a few grey levels of Pillow's."""
    from deepconnotation.backend import tf

    path, _ = exported("savedmodel")
    photo = tmp_path / "photo.jpg"
    Image.fromarray(toy.draw("awe", 5, 64)).save(photo, quality=95)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = serve(tf.constant([photo.read_bytes()] * 2))
    (row,) = predict.predict(trained, [photo])
    assert np.allclose(found["probabilities"][1], row["probabilities"], atol=0.05)
    assert [name.decode() for name in found["classes"].numpy()] == trained.classes


def test_a_small_run_is_a_run(trained, pictures, tmp_path):
    out = tmp_path / "small"
    done = command("export", trained.path, "--to", "small", "--out", out)
    assert done.returncode == 0, done.stderr
    images, expected = pictures
    made = run.load(out)
    assert (out / "card.md").exists() and made.temperature == trained.temperature
    sizes = [(found.path / "model.keras").stat().st_size for found in (made, trained)]
    assert sizes[0] < 0.55 * sizes[1]
    part = pipeline.Split(pd.DataFrame(), images, np.zeros(len(images), np.int64))
    got = evaluate.predict_split(made, part)[0]
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.97
    assert np.abs(got - expected).mean() < 0.01
    for a, b in zip(made.model.get_weights(), trained.model.get_weights(), strict=True):
        assert a.dtype == np.float32 and np.allclose(a, b, rtol=2**-8, atol=1e-6)
    assert (out / "seen.npy").read_bytes() == (trained.path / "seen.npy").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        export.export(trained, "small", out)


def test_weights_are_rounded_to_seven_digits():
    values = np.array([1.0, 1 + 2**-7, 1 + 2**-8 + 2**-10, -3.11, 0.0], np.float32)
    assert list(_rounded(values)[:3]) == [1.0, 1 + 2**-7, 1 + 2**-7]
    assert _rounded(values)[3] == -3.109375 and _rounded(values).dtype == np.float16
    assert _rounded(np.array([1e6], np.float32)).dtype == np.float32


def test_what_cannot_be_exported(trained, tmp_path):
    done = command("export", trained.path, "--to", "small")
    assert done.returncode == 2 and "give it alone, and --out" in done.stderr
    before = run.file_sha256(trained.path / "model.keras")
    done = command("export", trained.path, "--to", "keras", "--out", trained.path)
    assert done.returncode == 2 and "a run exists already there" in done.stderr
    assert run.file_sha256(trained.path / "model.keras") == before
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(trained.path, elsewhere)
    config = json.loads((elsewhere / "run.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone")
    (elsewhere / "run.json").write_text(json.dumps(config))
    done = command("export", elsewhere, "--to", "int8")
    assert done.returncode == 2 and re.search("gone is not there; its training", done.stderr)
    done = command("export", elsewhere, "--to", "litert")
    assert done.returncode == 0 and "pictures" not in done.stdout


def test_a_form_that_a_net_does_not_have_is_one_line(trained, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("a page\nof text: 'tf.Einsum' op is neither a custom op nor a flex op")

    monkeypatch.setattr(litert, "convert", refuse)
    with pytest.raises(UserError, match=r"--to litert: .* \(a page of text: .*choose another"):
        export.main([str(trained.path), "--to", "litert", "--out", str(tmp_path)])
    assert not list(tmp_path.glob("*.tflite"))
