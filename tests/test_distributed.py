"""Several processes and several devices train as one does."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time

import pandas as pd
import pytest
from tools import command

from deepconnotation import train
from deepconnotation.settings import Settings

# no batch normalisation and nothing random: all replicas together do what one device does
SAME = (
    "--arch small_cnn --epochs 5 --batch 5 --dropout 0 --l2 1e-4 --optimizer adam --rate 1e-3 "
    "--clip 1 --ema 0.9 --no-flip --shift 0 --head-epochs 1 --fine-tune 1 --precision float32"
).split()
FIGURES = ["loss", "accuracy", "val_loss"]


@pytest.fixture(scope="module")
def alone(toy_data, tmp_path_factory):
    """History of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    args = train.parse(["--data", str(toy_data), "--run", str(folder), *SAME])
    assert train.start(args.arch, toy_data, folder, Settings.from_dict(vars(args))) == 0
    return pd.read_csv(folder / "history.csv")


def workers(folder, *words):
    """Start two workers of one run; the one with index 0 leads."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    started = []
    for index in range(2):
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        started.append(subprocess.Popen(
            [sys.executable, "-m", "deepconnotation.train", "--run", str(folder), *map(str, words)],
            env={**os.environ, "TF_CONFIG": json.dumps(config), "TMPDIR": str(folder.parent)},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
    return started


def finish(folder, alone, *words) -> str:
    """Let two workers train to the end, to one process's curve; return what the first one said."""
    leader, other = workers(folder, *words)
    said, _ = leader.communicate(timeout=120)
    other.communicate(timeout=120)
    assert leader.returncode == other.returncode == 0
    history = pd.read_csv(folder / "history.csv")
    assert (history[FIGURES] - alone[FIGURES]).abs().max().max() < 1e-3
    assert alone["loss"].iloc[-1] < alone["loss"].iloc[0] - 0.05  # there is a curve to compare
    assert (folder / "metrics.json").exists() and (folder / "report.html").exists()
    return said


def test_two_workers_give_the_curve_of_one_process(toy_data, alone, tmp_path):
    assert "epoch 1/5" in finish(tmp_path / "run", alone, "--data", toy_data, *SAME)


@pytest.mark.slow  # four processes, each of which has to start TensorFlow
def test_a_worker_is_killed_and_all_go_on(toy_data, alone, tmp_path):
    folder, words = tmp_path / "run", ("--data", toy_data, *SAME)
    leader, other = workers(folder, *words)
    until = time.monotonic() + 120
    while not (folder / "history.csv").exists() and time.monotonic() < until:
        time.sleep(0.02)
    other.kill()
    _, told = leader.communicate(timeout=120)
    assert leader.returncode == 2 and "Traceback" not in told
    assert "another worker is gone" in told and "the same command" in told
    done = len(pd.read_csv(folder / "history.csv"))
    assert 1 <= done < 5

    said = finish(folder, alone, *words)
    assert re.search(rf"^epoch {done + 1}/5", said, re.M) and "epoch 1/5" not in said


DEVICES = textwrap.dedent("""
    import sys
    import tensorflow as tf

    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)

    from pathlib import Path
    from deepconnotation import distributed, run, train

    team = distributed.Team(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    assert team.replicas == 2
    data, folder, *words = sys.argv[1:]
    args = train.parse([*words, "--run", folder])
    settings = train.Settings.from_dict(vars(args))
    status = train.start(args.arch, Path(data), Path(folder), settings, team=team)
    assert status == 0
    sys.exit(status)
""")


def on_two_devices(data, folder, *words):
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, data, folder, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "history.csv")


@pytest.mark.slow  # the same as two processes do above
def test_two_devices_give_the_curve_of_one(toy_data, alone, tmp_path):
    history = on_two_devices(toy_data, tmp_path / "run", *SAME)
    assert (history[FIGURES] - alone[FIGURES]).abs().max().max() < 1e-3


@pytest.mark.slow  # compiling float16 for two replicas takes 20 seconds
def test_float16_with_a_float32_head_on_two_devices(toy_data, tmp_path):
    """Batch normalisation, dropout, mixup, averaged weights and loss scaling on replicas."""
    words = (
        "--arch resnet18 --width 8 --epochs 2 --batch 16 --mixup 0.2 --ema 0.9 --dropout 0.1 "
        "--precision mixed_float16"
    ).split()
    history = on_two_devices(toy_data, tmp_path / "run", *words)
    assert history[["loss", "val_loss"]].notna().all().all() and (history["loss"] < 10).all()
    from deepconnotation import run
    from deepconnotation.backend import keras

    found = run.load(tmp_path / "run")
    assert found.config["precision"] == "mixed_float16"
    saved = keras.saving.load_model(found.path / "model.keras", compile=False)
    assert saved.outputs[0].dtype == "float32"
    assert saved.get_layer("stem_conv").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "TF_CONFIG:"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "TF_CONFIG: 'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}',
         "its task is none of its workers"),
    ],
)  # fmt: skip
def test_what_is_no_cluster_is_refused(toy_data, tmp_path, monkeypatch, config, message):
    monkeypatch.setenv("TF_CONFIG", config)
    done = command("train", "--data", toy_data, "--run", tmp_path / "run")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
