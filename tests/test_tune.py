"""The search for settings."""

import json
import shlex
import subprocess
import sys
import time

import pandas as pd
import pytest

from deepconnotation import embed, run, train, tune
from deepconnotation.console import UserError
from deepconnotation.data import pipeline

SPACE = """
arch = "small_cnn"
epochs = 2
precision = "float32"
[search]
batch = [16, 48]
rate = { low = 0.001, high = 0.1, log = true }
"""


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return str(path)


@pytest.fixture
def no_test_split(monkeypatch):
    """The test split cannot be opened."""
    real = pipeline.load

    def load(dataset, split, classes=None):
        assert split != "test"
        return real(dataset, split, classes)

    monkeypatch.setattr(pipeline, "load", load)


def test_trials_are_kept_and_go_on(space, toy_data, tmp_path, no_test_split, capsys):
    out = tmp_path / "out"
    command = [space, "--data", str(toy_data), "--out", str(out), "--trials"]
    tune.main([*command, "2"])
    tune.main([*command, "3"])
    trials = pd.read_csv(out / "trials.csv")
    assert trials["number"].tolist() == [0, 1, 2]
    assert set(trials["params_batch"]) <= {16, 48}
    assert trials["params_rate"].between(0.001, 0.1).all() and trials["params_rate"].nunique() == 3
    for number, value, state in trials[["number", "value", "state"]].itertuples(index=False):
        history = pd.read_csv(out / f"trial-{number:04}" / "history.csv")
        if state == "COMPLETE":
            assert value == pytest.approx(history["val_loss"].min())
        config = json.loads((out / f"trial-{number:04}" / "run.json").read_text())
        assert config["settings"]["rate"] == pytest.approx(trials["params_rate"][number])
        told = train.parse(shlex.split(config["command"])[3:])  # what the trial is, as train's
        assert told.rate == config["settings"]["rate"]
        assert told.run == str(out / f"trial-{number:04}")
    best = trials.loc[trials["value"].idxmin()]
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines()[::-1] if line.startswith("python -m"))
    args = train.parse(shlex.split(line)[3:])
    assert (args.batch, args.rate) == (best["params_batch"], pytest.approx(best["params_rate"]))
    assert args.epochs == 2 and args.data == str(toy_data)
    page = (out / "report.html").read_text()
    assert page.count("<img") == 4 and "the test figure will be somewhat worse" in page
    with pytest.raises(UserError, match="holds another search"):
        tune.main([*command, "4", "--monitor", "val_accuracy"])
    other = tmp_path / "other"  # trials on other pictures must not stand beside these
    other.mkdir()
    (other / "manifest.csv").write_text((toy_data / "manifest.csv").read_text() + "\n")
    with pytest.raises(UserError, match="holds another search"):
        tune.main([space, "--data", str(other), "--out", str(out), "--trials", "4"])
    with pytest.raises(UserError, match="nowhere/manifest.csv: no such file"):
        tune.main([space, "--data", "nowhere", "--out", str(tmp_path / "new"), "--trials", "1"])
    assert not (tmp_path / "new").exists()


def test_fine_tuning_is_searched(toy_run, toy_data, tmp_path, capfd):
    path, out = tmp_path / "space.toml", tmp_path / "out"
    start = f'arch = "small_cnn"\nweights = "{toy_run.path}"\nmerge = "anger+fear"\n'
    nowhere = start.replace(str(toy_run.path), "nowhere")
    for refused, message in ((nowhere, "nowhere"), (start + "affect = 'l2'\n", "tells no valence")):
        path.write_text(refused + "[search]\nwarmup = [0.0]\n")
        with pytest.raises(UserError, match=message):
            tune.main([str(path), "--data", str(toy_data), "--out", str(out)])
        assert "Traceback" not in capfd.readouterr().err  # Optuna's
    # No trial was taken, so the mended space may have the same folder.
    path.write_text(start + "epochs = 1\n[search]\nhead_epochs = [1]\n")
    tune.main([str(path), "--data", str(toy_data), "--out", str(out)])
    found = run.load(out / "trial-0000")
    assert found.config["weights"]["run"] == str(toy_run.path) and "anger+fear" in found.classes
    line = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("python"))
    args = train.parse(shlex.split(line)[3:])
    assert (args.weights, args.merge) == (str(toy_run.path), ["anger+fear"])
    assert pd.read_csv(out / "trials.csv")["number"].tolist() == [0]


def test_a_killed_search_goes_on(space, toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "HEARTBEAT", 1)
    out = tmp_path / "out"
    arguments = [space, "--data", str(toy_data), "--out", str(out), "--trials", "3"]
    other = subprocess.Popen([sys.executable, "-m", "deepconnotation.tune", *arguments],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    for _ in range(600):
        if (out / "trial-0000" / "run.json").exists():
            break
        time.sleep(0.1)
    other.kill()
    other.wait()
    tune.main(arguments)
    trials = pd.read_csv(out / "trials.csv")
    assert trials["state"].isin(["COMPLETE", "PRUNED"]).sum() == 3
    killed = trials[trials["state"] == "FAIL"]
    assert killed["number"].tolist() == [0]
    again = trials[trials["params_rate"] == killed["params_rate"].iloc[0]]
    assert len(again) == 2  # its settings were tried again
    page = (out / "report.html").read_text()
    assert "3 trials; best" in page and "killed, tried again" in page


@pytest.mark.slow  # four trials of what the other tests search, too
def test_the_originals_sweep_of_the_batch(toy_run, toy_data, tmp_path, monkeypatch):
    folder = tmp_path / "embedded"
    embed.embed(str(toy_run.path), toy_data, folder)
    monkeypatch.setattr(tune, "ORIGINAL", {"rate": 1e-3, "epochs": 3, "batch": 64})
    out = tmp_path / "out"
    tune.main(["original-batch", "--data", str(folder), "--out", str(out)])
    trials = pd.read_csv(out / "trials.csv")
    assert sorted(trials["params_batch"]) == [4, 16, 64, 128]


def test_a_diverging_trial_is_no_result(space, toy_data, tmp_path):
    path = tmp_path / "wild.toml"
    space = SPACE.replace("low = 0.001, high = 0.1", "low = 90.0, high = 99.0")
    space = space.replace("epochs = 2", "epochs = 20")
    path.write_text(space + "clip = [0.0]\nl2 = [10.0]\n")
    out = tmp_path / "out"
    with pytest.raises(UserError, match="none of the trials .* gave a figure"):
        tune.main([str(path), "--data", str(toy_data), "--out", str(out), "--trials", "1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 1", "a table .search. with settings"),
        ("[search]\nrates = [1]", "'rates' is no setting of train"),
        ("[search]\nrate = 1", "expected a list of values, or low and high"),
        ("[search]\nrate = { low = 1 }", "expected a list of values, or low and high"),
        ("[search]\nrate = ['fast']", "rate = .*of the wrong type"),
        ("epochs = 0\n[search]\nrate = [0.1]", "--epochs 0"),
        ("arch = 'resnet81'\n[search]\nrate = [0.1]", "the nearest is 'resnet"),
        ("weights = 3\n[search]\nrate = [0.1]", "weights = 3: expected a run's folder, imagenet"),
        ("merge = [1]\n[search]\nrate = [0.1]", "merge = .1.: expected classes like"),
        ("= 3", "not a TOML file"),
    ],
)
def test_a_space_that_cannot_be_searched(tmp_path, text, message):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        tune.read_space(str(path))


def test_an_unknown_preset():
    with pytest.raises(UserError, match="no such file, and no preset .original-rate"):
        tune.read_space("original-rates")


def test_a_run_is_not_written_over(toy_run, toy_data):
    with pytest.raises(UserError, match="a run exists already there"):
        tune.main(["original-rate", "--data", str(toy_data), "--out", str(toy_run.path)])


def test_a_study_that_cannot_be_written_is_named(space, toy_data, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")

    def full(*arguments, **named):
        raise optuna.exceptions.StorageInternalError("it") from OSError("disk is full")

    monkeypatch.setattr(tune, "_train_net", lambda *_: [{"val_loss": 1.0}])
    command = [space, "--data", str(toy_data), "--out", str(tmp_path / "out"), "--trials", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(optuna.storages._CachedStorage, "set_trial_state_values", full)
        with pytest.raises(UserError, match=r"study.db cannot be written \(disk is full\)"):
            tune.main(command)


def test_a_damaged_study_is_named(space, toy_data, tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database at all, " * 20)
    with pytest.raises(UserError, match="study.db: file is not a database; choose another --out"):
        tune.main([space, "--data", str(toy_data), "--out", str(tmp_path)])
