"""Answers by LiteRT: equal to Keras', without TensorFlow, and never instead of the right ones."""

import builtins
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_registry import small
from tools import forget_home

from deepconnotation import ensemble, evaluate, fast, litert, predict, run, train
from deepconnotation.data import pipeline
from deepconnotation.models.precision import in_float32
from deepconnotation.settings import Settings

pytest.importorskip("ai_edge_litert", reason="the extra [fast] is not installed")


@pytest.fixture(scope="module")
def half_run(toy_data, tmp_path_factory):
    """A run that trained in bfloat16, answers with mirror images, and has a temperature.

    The net is small, for it is converted often; test_export.py converts one with batch norms.
    """
    folder = tmp_path_factory.mktemp("half") / "run"
    settings = Settings(epochs=4, batch=16, optimizer="adam", rate=3e-3,
                        precision="mixed_bfloat16", test_flip=True)  # fmt: skip
    assert train.start("small_cnn", toy_data, folder, settings) == 0
    found = run.load(folder)
    assert fast.answers(found) is None
    litert.write(found, found.path)
    return found


@pytest.fixture
def pictures(toy_data, tmp_path):
    part = pipeline.load(toy_data, "test")
    for i, pixels in enumerate(part.images):
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    return sorted(tmp_path.glob("*.png")), part


def test_answers_are_equal(half_run, pictures, monkeypatch):
    paths, part = pictures
    assert half_run.temperature != 1
    quick = fast.answers(half_run)(np.asarray(part.images))
    probabilities, _ = evaluate.predict_split(half_run, part)
    assert np.allclose(np.exp(quick[0]), probabilities, atol=1e-5) and quick[1].shape == (16, 0)
    by_litert = list(predict.predict(half_run, paths))
    monkeypatch.setattr(fast, "answers", lambda found: None)
    by_keras = list(predict.predict(half_run, paths))
    for a, b in zip(by_litert, by_keras, strict=True):
        assert a["label"] == b["label"] and a.get("set") == b.get("set")
        assert np.allclose(a["probabilities"], b["probabilities"], atol=1e-4)


def test_a_process_that_predicts_needs_no_tensorflow(half_run, pictures):
    code = (
        "import sys\n"
        "from deepconnotation import predict\n"
        "status = predict.main(sys.argv[1:])\n"
        "assert not {'tensorflow', 'keras', 'pandas', 'matplotlib'} & {*sys.modules}\n"
        "sys.exit(status)\n"
    )
    words = [str(half_run.path), *map(str, pictures[0][:3]), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 and done.stderr.strip() == "3 ok"


def test_valence_and_arousal_follow_the_classes(tmp_path):
    model = small("small_cnn", affect=True)
    settings = {"affect": "ccc", "test_flip": False, "multi_label": True}
    found = run.Run(tmp_path, {"classes": list("abcde"), "settings": settings})
    found.__dict__["model"] = model
    run.save_model(model, tmp_path / "model.keras")
    litert.write(found, found.path)
    images = np.random.default_rng(0).integers(0, 256, (3, *model.input_shape[1:]), np.uint8)
    log_p, told = fast.answers(found)(images)
    logits, expected = (np.asarray(each) for each in model(images))
    assert np.allclose(told, expected, atol=1e-5)
    assert np.allclose(np.exp(log_p), 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_an_ensemble_has_one_too(half_run, toy_run, toy_data, tmp_path):
    both = ensemble.ensemble([half_run, toy_run], tmp_path / "both")
    part = pipeline.load(toy_data, "test")
    litert.write(both, both.path)
    log_p, _ = fast.answers(both)(np.asarray(part.images))
    assert np.allclose(np.exp(log_p), evaluate.predict_split(both, part)[0], atol=1e-5)


@pytest.fixture
def copy(half_run, tmp_path):
    shutil.copytree(half_run.path, tmp_path / "copy")
    return run.load(tmp_path / "copy")


@pytest.mark.parametrize("change", ["damaged", "gone", "another model", "temperature"])
def test_one_that_does_not_fit_is_made_anew(half_run, copy, pictures, capsys, change):
    if change == "damaged":
        (copy.path / fast.FILE).write_bytes(b"TFL3")
    elif change == "gone":
        (copy.path / fast.FILE).unlink()
    elif change == "another model":
        known = json.loads((copy.path / fast.MADE_OF).read_text())
        (copy.path / fast.MADE_OF).write_text(json.dumps({**known, "model_sha256": "0"}))
    else:
        copy = copy.update(temperature=1.5)
    assert fast.answers(copy) is None
    (row,) = predict.predict(copy, pictures[0][:1])
    assert "model.tflite is made" in capsys.readouterr().err and fast.answers(copy) is not None
    probabilities, _ = evaluate.predict_split(copy, pictures[1])
    assert np.allclose(row["probabilities"], probabilities[0], atol=1e-4)


def test_a_run_killed_in_training_answers_with_the_model_that_it_has_now(copy, pictures):
    killed = run.Run(copy.path, {k: v for k, v in copy.config.items() if k != "model_sha256"})
    list(predict.predict(killed, pictures[0][:1]))
    assert fast.answers(killed) is not None
    killed.model.get_layer("logits").bias.assign_add(np.arange(8.0))
    run.save_model(killed.model, copy.path / "model.keras")  # it was resumed, and killed again
    assert fast.answers(killed) is None


@pytest.mark.parametrize("why", ["not installed", "all folders are closed", "no home"])
def test_otherwise_keras_answers(half_run, copy, pictures, monkeypatch, capsys, why):
    (copy.path / fast.FILE).unlink()
    if why == "not installed":
        usual = builtins.__import__

        def without(name, *args, **kwargs):
            if name.startswith("ai_edge_litert"):
                raise ImportError(name)
            return usual(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
    elif why == "no home":
        monkeypatch.setattr(fast.os, "access", lambda path, mode: path != copy.path)
        forget_home(monkeypatch)
    else:
        monkeypatch.setattr(fast.os, "access", lambda path, mode: False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(copy.path / "run.json"))  # no folder can be there
    (row,) = predict.predict(copy, pictures[0][:1])
    assert not (copy.path / fast.FILE).exists() and not capsys.readouterr().err
    probabilities, _ = evaluate.predict_split(half_run, pictures[1])
    assert np.allclose(row["probabilities"], probabilities[0], atol=1e-4)


@pytest.mark.parametrize("there", ["gone", "outdated"])
def test_a_run_that_may_only_be_read(copy, pictures, tmp_path, monkeypatch, capsys, there):
    """As on a shared disk; to root nothing is forbidden, so the answer to that is given here."""
    if there == "gone":
        (copy.path / fast.FILE).unlink()
        (copy.path / fast.MADE_OF).unlink()
    else:
        copy = copy.update(temperature=1.5)
    before = {each: each.stat().st_mtime_ns for each in copy.path.iterdir()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(fast.os, "access", lambda path, mode: path != copy.path)
    (row,) = predict.predict(copy, pictures[0][:1])
    (made,) = (tmp_path / "own").rglob(fast.FILE)
    assert f"{made} is made" in capsys.readouterr().err
    assert before == {each: each.stat().st_mtime_ns for each in copy.path.iterdir()}
    assert fast.answers(copy).path == made
    probabilities, _ = evaluate.predict_split(copy, pictures[1])
    assert np.allclose(row["probabilities"], probabilities[0], atol=1e-4)
    assert fast.answers(copy.update(temperature=2)) is None  # the run was calibrated anew


def test_what_cannot_be_converted_is_said(half_run, copy, pictures, monkeypatch, capsys):
    def refuse(found):
        raise ValueError("some op\nis not supported")

    monkeypatch.setattr(litert, "convert", refuse)
    (copy.path / fast.FILE).unlink()
    (row,) = predict.predict(copy, pictures[0][:1])
    assert "some op is not supported; predict will use Keras" in capsys.readouterr().err
    probabilities, _ = evaluate.predict_split(half_run, pictures[1])
    assert np.allclose(row["probabilities"], probabilities[0], atol=1e-4)


def test_float32_is_the_same_net(half_run):
    assert in_float32(half_run.model) is half_run.model
    with zipfile.ZipFile(half_run.path / "model.keras") as file:
        assert "mixed_bfloat16" in file.read("config.json").decode()
    assert "bfloat16" not in json.dumps(half_run.model.get_config())
