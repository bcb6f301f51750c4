"""The one command: what it hands on, what it tells, and what a shell may ask it."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from deepconnotation.__main__ import COMMANDS


def run(*words, **env):
    words = [sys.executable, "-m", "deepconnotation", *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **env})


def test_every_command_is_there():
    for name in COMMANDS:
        assert callable(import_module(f"deepconnotation.{name}").main)
    done = run("--help")
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)


def test_arguments_and_status_are_handed_on(tmp_path):
    done = run("evaluate", tmp_path)
    assert done.returncode == 2 and "no run.json there" in done.stderr
    done = run("prepare", tmp_path / "gone", "--out", tmp_path / "data")
    assert done.returncode == 2 and "gone" in done.stderr and len(done.stderr.splitlines()) == 1
    done = run("train", "--help")
    assert done.returncode == 0 and "--teacher" in done.stdout
    done = run("trian")
    assert done.returncode == 2 and "invalid choice: 'trian'" in done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [("deepconnotation ex", {"explain", "export"}),
     ("deepconnotation train --tea", {"--teacher", "--teacher-share"}),
     ("deepconnotation train --optimizer ada", {"adam", "adamw"})],
)  # fmt: skip
def test_a_shell_completes(tmp_path, line, expected):
    pytest.importorskip("argcomplete", reason="the extra [completion] is not installed")
    out = tmp_path / "out"
    run(_ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS="\n",
        _ARGCOMPLETE_STDOUT_FILENAME=str(out), _ARGCOMPLETE_SHELL="bash")  # fmt: skip
    assert {word.strip() for word in out.read_text().split("\n")} == expected
