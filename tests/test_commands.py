"""What every command promises: help without TensorFlow, one-line errors, atomic files."""

import errno
import io
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tools import command, tool

from deepconnotation import console
from deepconnotation.data import manifest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ["train", "crossval", "evaluate", "predict", "embed", "ensemble", "tune", "cloud"]
TOOLS = ["fetch_and_resize.py", "split.py", "audit.py", "balance.py", "inspect_images.py"]
HEAVY = {"optuna", "tensorflow", "keras", "pandas", "sklearn", "matplotlib", "scipy"}


@pytest.mark.parametrize("name", MODULES + TOOLS)
def test_help_imports_nothing_heavy(name):
    """What keeps --help under a second; benchmarks/start.py times it."""
    what = ["-m", f"deepconnotation.{name}"] if name in MODULES else [ROOT / "data_tools" / name]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *what, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage:" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported and not imported & HEAVY


@pytest.mark.parametrize(
    "name", ["prepare", "crossval", "embed", "tune", "reproduce", "pseudo", "video"]
)
def test_ctrl_c_tells_that_the_same_command_goes_on(name, monkeypatch):
    """A search and a row of `reproduce` told how to resume the training that they were at."""
    module = import_module(f"deepconnotation.{name}")

    def interrupted(_):
        raise KeyboardInterrupt("go on with train --resume")

    monkeypatch.setattr(module, "parse", interrupted)
    with pytest.raises(KeyboardInterrupt, match="^what is done is kept; the same command goes on$"):
        module.main([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "resnet81"], "'resnet81'"),
        (["--data", "/nowhere"], "/nowhere/dataset.json: no such file"),
        (["--epochs", "0"], "--epochs 0: expected a number from 1"),
        (["--batch", "-1"], "--batch -1"),
        (["--resume", "/nowhere"], "/nowhere: no run.json"),
        (["--milestones", "a,b"], "--milestones"),
        (["--milestones", "50,nan"], "--milestones"),
        (["--data", ""], "an argument is empty; is a variable"),
        (["--resume="], "--resume= is empty"),
        (["--head", "10,x"], "--head: '10,x': expected numbers from 1 to 65536, like 4096,256"),
        (["--head", "0"], "--head: '0': expected numbers"),
        (["--optimizer", "magic"], "invalid choice: 'magic'"),
    ],
)
def test_bad_use_of_train(arguments, message, tmp_path):
    done = command("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["data_tools/fetch_and_resize.py", "pictures", "--out", "new", "--seed", "-1"],
        ["data_tools/split.py", "data", "--seed", "-1"],
        ["data_tools/balance.py", "data", "--up-to", "9", "--out", "new", "--seed", "2147483648"],
        ["tune", "space.toml", "--data", "data", "--out", "new", "--seed", "-1"],
        ["demo", "--port", "65536"],
        ["video", "run", "film.mp4", "--out", "new", "--every", "nan"],
        ["video", "run", "film.mp4", "--out", "new", "--seconds", "0"],
    ],
)
def test_numbers_out_of_range(words):
    name, *rest = words
    done = tool(Path(name).name, *rest) if "/" in name else command(name, *rest)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert rest[-2] in done.stderr and ("from " in done.stderr or "above 0" in done.stderr)


def test_an_existing_run_is_not_overwritten(toy_run, toy_data):
    before = (toy_run.path / "run.json").read_bytes()
    done = command("train", "--data", toy_data, "--run", toy_run.path)
    assert done.returncode == 2 and "exists already" in done.stderr
    assert (toy_run.path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, "No space left on device; make room, then go on as after Ctrl-C"),
     (errno.EACCES, "Permission denied; take another file or folder, or change who may use this "
                    "one"),
     (errno.EIO, "Input/output error")],
)  # fmt: skip
def test_what_the_system_refuses_is_told_with_what_to_do(capsys, number, told):
    def main():
        raise OSError(number, os.strerror(number), "state.npz")

    with pytest.raises(SystemExit, match="2"):
        console.run_command(main)
    assert capsys.readouterr().err == f"error: state.npz: {told}\n"


def test_what_a_terminal_cannot_show_stops_nothing(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    with pytest.raises(SystemExit, match="0"):
        console.run_command(lambda: print("0.628 ± 0.004 caf\udce9"))
    assert shown.getvalue() == rb"0.628 \xb1 0.004 caf\udce9" + b"\n"


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)])
def test_a_command_works_while_nobody_listens(closed, toy_data, tmp_path):
    """As after `>&-` or `2>&-`, with which some schedulers start their jobs."""
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)

    def split(fractions: str) -> int:
        words = [sys.executable, "-m", "deepconnotation.split", data, "--fractions", fractions]
        return subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: [os.close(stream) for stream in closed],
        ).returncode  # fmt: skip

    assert split("50/25/25") == 0 and split("50/25") == 2
    assert manifest.read(data)["split"].value_counts()["train"] == len(manifest.read(data)) / 2


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    console.write_atomic(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(console.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        console.write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("seconds", "rate"), [(0.5, "12"), (10, "0.6")])
def test_progress_prints_plain_lines_elsewhere(seconds, rate, capsys, monkeypatch):
    times = iter([0.0, 0.0, seconds])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(times))
    with console.progress("pictures", 10, done=4) as advance:
        advance(6)
    assert capsys.readouterr().err == f"pictures: 10/10 ({rate} a second)\n"
