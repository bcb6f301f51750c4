"""README and docs/ hold: commands are understood, the example architecture works."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from tools import command, tool

from deepconnotation.data.sources import toy

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = re.compile(
    r"^(?:\.venv/bin/)?(?:python (?:data_tools/(?P<tool>\w+)\.py|-m deepconnotation\.(?P<name>\w+))"
    r"|deepconnotation (?P<short>\w+))"
)


def commands() -> list[tuple[str, str, str]]:
    """Return page, program and arguments of every command line in an indented block."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?: {4,}|\t)(\S.*)$", text, re.M):
            match = PROGRAM.match(line)
            if match:
                program = match["tool"] or match["name"] or match["short"]
                found.append((page.name, program, line[match.end() :].split(" #")[0].strip()))
    return found


COMMANDS = commands()


def test_there_are_commands_on_the_pages():
    assert len(COMMANDS) > 30
    assert {"fetch_and_resize", "train", "evaluate", "predict"} <= {p for _, p, _ in COMMANDS}


@pytest.mark.parametrize(("page", "program", "arguments"), COMMANDS)
def test_every_command_is_understood(page, program, arguments):
    """Its flags exist and take these values."""
    named = {"fetch_and_resize": "prepare", "cloud": "cloud.command"}
    module = import_module(f"deepconnotation.{named.get(program, program)}")
    words = [w for w in shlex.split(arguments) if w != "..."]
    if words not in ([], ["--help"]) or program in ("reproduce", "demo"):
        module.parse(words)


def test_the_gpus_tensorflow_is_the_pinned_one():
    told = re.search(r"'tensorflow\[and-cuda\]==(\S+)'", (ROOT / "README.md").read_text("utf-8"))
    assert f"\ntensorflow_cpu=={told[1]}\n" in (ROOT / "requirements.lock").read_text("utf-8")


def test_the_example_architecture(tmp_path, monkeypatch, toy_data):
    """docs/architecture.md: under 60 lines, the promised parameters, trains and answers."""
    from deepconnotation.models import registry

    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    source, lines = re.findall(r"```python\n(.*?)```", page, re.S)
    assert source.count("\n") < 60
    (tmp_path / "tiny.py").write_text(source)
    monkeypatch.setattr(registry, "ARCHITECTURES", dict(registry.ARCHITECTURES))
    monkeypatch.setattr(registry, "OPTIONS", dict(registry.OPTIONS))
    exec(lines, vars(registry))
    models = import_module("deepconnotation.models")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    model = registry.build("tiny", (16, 16, 3), 8)
    assert model.count_params() == 94_952
    assert np.asarray(model(np.zeros((2, 16, 16, 3), np.uint8))).shape == (2, 8)

    run = tmp_path / "run"
    done = command("train", "--arch", "tiny", "--data", toy_data, "--run", run, "--epochs", "1",
                   "--width", "8")  # fmt: skip
    assert done.returncode == 0, done.stderr
    picture = next((toy_data / "test").rglob("*.jpg"))
    assert "ok" in command("predict", run, picture, "--csv").stdout


def test_the_example_from_python(tmp_path, monkeypatch, toy_data, capsys):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    for long, quick in (("resnet18", "small_cnn"), ("epochs=20", "epochs=1")):
        assert long in source
        source = source.replace(long, quick)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").symlink_to(toy_data)
    shutil.copytree(toy_data / "test/awe", tmp_path / "holiday")
    (tmp_path / "holiday/notes.txt").write_text("no picture")
    exec(source, {})
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("holiday/")]
    assert len(told) == 3 and told[0].startswith("holiday/notes.txt not_a_picture")
    assert all(float(line.split()[-1]) <= 1 for line in told[1:])


#: what makes a training of README's path quick; later flags win
QUICK = "--epochs 1 --width 8 --batch 16 --precision float32".split()
#: what README's path needs that a test cannot give: a host, a camera, a cloud, hours
ELSEWHERE = ("urls.csv", "fi/*.csv", "film.mp4", "reproduce keras-cnn", "--rehearse", "demo",
             "cloud", "--resume", "snapshots/fi ")  # fmt: skip


@pytest.mark.slow
def test_readme_from_top_to_bottom(tmp_path, monkeypatch):
    """README's commands, in their order, on drawn pictures."""
    monkeypatch.chdir(tmp_path)
    toy.read(tmp_path / "your/pictures", per_class=12)
    toy.read(tmp_path / "holiday", per_class=1)
    some = next((tmp_path / "holiday").rglob("*.png"))
    for name in ("photo.jpg", "face.jpg"):
        (tmp_path / name).write_bytes(some.read_bytes())
    (tmp_path / "snapshots").mkdir()
    for name in ("evoked", "expressions"):
        (tmp_path / "snapshots" / name).symlink_to(ROOT / "snapshots" / name)
    ran = 0
    for page, program, arguments in COMMANDS:
        if page != "README.md" or any(e in f"{program} {arguments}" for e in ELSEWHERE):
            continue
        words = shlex.split(arguments)
        if program == "train":
            quick = QUICK if "efficientnet_lite0" not in words else ["--epochs", "3"]
            words += quick if "--run" in words else [*quick, "--run", f"snapshots/doc{ran}"]
        if "snapshots/other" in words:
            more = ["--arch", "resnet", "--data", "data/mine", "--run", "snapshots/other"]
            assert command("train", *more, *QUICK).returncode == 0
        is_tool = (ROOT / "data_tools" / f"{program}.py").exists()
        done = tool(f"{program}.py", *words) if is_tool else command(program, *words)
        assert done.returncode == 0, f"{program} {arguments}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 14
