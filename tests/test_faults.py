"""Faults that users meet: each ends in one line that names it, status 2, and nothing is lost."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tools import command, tool

from deepconnotation.data import manifest


def damage(name, content=b"{"):
    return lambda place: (place / name).write_bytes(content)


def cut(name):
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:200])


def remove(name):
    return lambda place: (place / name).unlink()


def edit(name, **fields):
    def change(place):
        text = json.loads((place / name).read_text())
        (place / name).write_text(json.dumps({**text, **fields}))

    return change


def row(**fields):
    """Change the first row of the manifest."""

    def change(place):
        path = place / "data/manifest.csv"
        lines = path.read_text().splitlines()
        names, cells = lines[0].split(","), lines[1].split(",")
        for name, value in fields.items():
            cells[names.index(name)] = value
        path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")

    return change


def same_id(place):
    table = (place / "data/manifest.csv").read_text().splitlines()
    row(id=table[2].split(",")[0])(place)


def no_pictures(place):
    for path in (place / "data/train").rglob("*.jpg"):
        path.unlink()
    shutil.rmtree(place / "data/.cache", ignore_errors=True)


def broken_pictures(place):
    for path in (place / "data/train").rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:100])
    shutil.rmtree(place / "data/.cache", ignore_errors=True)


def half_embedded(place):
    (place / "embedded").mkdir()
    (place / "embedded/embed.json").write_text('{"backbone": "ru')


def nothing(place):
    pass


TRAIN = "train --arch resnet18 --epochs 1 --width 4 --batch 16 --data data --run new"
#: name -> what happens to a folder with `run` and `data`, the command, what its line says
FAULTS = {
    "no run folder": (nothing, "predict gone photo.png", "gone: no run.json there"),
    "run.json cut short": (cut("run/run.json"), "predict run photo.png", "run.json: damaged"),
    "run.json without classes": (damage("run/run.json", b'{"format": 1}'), "predict run photo.png",
                                 "is missing"),
    "run of a later version": (edit("run/run.json", format=9), "evaluate run", "run format 9"),
    "no model": (remove("run/model.keras"), "evaluate run", "model.keras: no such file"),
    "model cut short": (cut("run/model.keras"), "evaluate run", "not the file that this run saved"),
    "model of another run": (edit("run/run.json", classes=["a", "b"], model_sha256=None),
                             "evaluate run --shared", "mixes two runs|--shared"),
    "no picture named": (nothing, "predict run empty", "no picture in empty"),
    "no data set": (nothing, TRAIN.replace("data --run", "gone --run"),
                    "gone/dataset.json: no such"),
    "no manifest": (remove("data/manifest.csv"), TRAIN, "manifest.csv: no such file"),
    "manifest of bytes": (damage("data/manifest.csv", b"\xff\xfe\x00"), TRAIN,
                          "not a readable CSV"),
    "manifest without a column": (damage("data/manifest.csv", b"id,file,label\n1,1.jpg,awe\n"),
                                  TRAIN, "column 'split' is missing; prepare the data set again"),
    "unknown label": (row(label="joy"), TRAIN, "row 2: label 'joy' is no class"),
    "id twice": (same_id, TRAIN, "occurs twice"),
    "unknown split": (row(split="val"), TRAIN, "split 'val' is not train"),
    "file outside": (row(file="../../etc/passwd"), TRAIN, "leads out of the data set"),
    "dataset.json damaged": (damage("data/dataset.json"), TRAIN, "dataset.json: damaged"),
    "pictures gone": (no_pictures, TRAIN, "prepare the data set again"),
    "pictures cut short": (broken_pictures, TRAIN, "truncated"),
    "run exists": (nothing, TRAIN.replace("new", "run"), "run exists already"),
    "unknown architecture": (nothing, TRAIN.replace("resnet18", "resnet19"),
                             "nearest is 'resnet18'"),
    "no epochs": (nothing, f"{TRAIN} --epochs 0", "--epochs 0: expected a number"),
    "weights gone": (nothing, f"{TRAIN} --weights gone", "gone"),
    "teacher gone": (nothing, f"{TRAIN} --teacher gone", "expected the output of embed"),
    "weights a class": (nothing, f"{TRAIN} --class-weights 1,2", "8 numbers"),
    "layer to freeze": (nothing, f"{TRAIN} --freeze-until stage9", "no such layer"),
    "finished run": (nothing, "train --resume run", "is finished"),
    "data changed": (row(group="somebody"), "train --resume stopped", "has changed since"),
    "split that is not there": (nothing, "evaluate run --split dev --data few", "split 'dev'"),
    "column that is not there": (nothing, "evaluate run --by colour", "--by colour: no such"),
    "encoder unknown": (nothing, "embed resnet --data data --out out", "neither a run folder nor"),
    "state cut short": (cut("stopped/last/state.npz"), "train --resume stopped",
                        "state.npz: damaged"),
    "predictions of bytes": (damage("run/predictions.csv", b"\xff\xfe\x00"), "evaluate run stopped",
                             "run/predictions.csv: damaged"),
    "predictions without labels": (damage("run/predictions.csv", b"id,split\n1,test\n"),
                                   "explain run", "run/predictions.csv: damaged"),
    "embedding cut short": (half_embedded, "embed run --data data --out embedded",
                            "embed.json: damaged"),
    "one member": (nothing, "ensemble run --run both", "two runs or more"),
    "class unknown": (nothing, "explain run photo.png --label joy", "the run tells"),
    "page below a file": (nothing, "explain run photo.png --out photo.png/why.html",
                          "photo.png: nothing can be written there"),
    "audit below a file": (nothing, "audit data --out photo.png/out",
                           "photo.png/out: nothing can be written there"),
    "row unknown": (nothing, "reproduce fractl", "no row 'fractl'"),
    "form alone": (nothing, "export run --to small", "--out"),
    "source gone": (nothing, "prepare gone --out out", "gone"),
    "fractions": (nothing, "prepare data/train --out out --fractions 80/30",
                  "--fractions '80/30'"),
    "size": (nothing, "prepare data --out out --size 4", "--size: '4'"),
    "another data set there": (nothing, "fetch_and_resize.py new --dataset toy --out data",
                               "data holds"),
    "split leaves a class out": (nothing, "split.py few --fractions 98/2",
                                 "does not occur in split"),
}  # fmt: skip


@pytest.fixture
def place(toy_run, toy_data, tmp_path, monkeypatch):
    """A folder as a user has it: a run, a stopped run, its data, a smaller data set, a picture."""
    for name, source in (("run", toy_run.path), ("stopped", toy_run.path), ("data", toy_data)):
        shutil.copytree(source, tmp_path / name)
    for name, state in (("run", "finished"), ("stopped", "interrupted")):
        config = json.loads((tmp_path / name / "run.json").read_text())
        config["state"], config["data"]["path"] = state, "data"
        (tmp_path / name / "run.json").write_text(json.dumps(config))
    shutil.copytree(toy_data, tmp_path / "few")
    table = manifest.read(tmp_path / "few")
    table = table[(table["split"] != "dev") & ~table["id"].str.endswith("7")]
    manifest.write(tmp_path / "few", manifest.to_csv(table), manifest.read_info(toy_data))
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos/awe").mkdir(parents=True)
    for path in (tmp_path / "photo.png", tmp_path / "photos/awe/1.png"):
        Image.new("RGB", (32, 32), "teal").save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(place.rglob("*"))
            if path.is_file() and ".cache" not in path.parts}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_is_lost(place, fault):
    happen, words, message = FAULTS[fault]
    happen(place)
    before = files(place)
    name, *words = words.split()
    done = (tool if name.endswith(".py") else command)(name, *words)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert any(part in last for part in message.split("|")), last
    after = files(place)
    assert {path: after.get(path) for path in before} == before


def test_there_are_thirty():
    assert len(FAULTS) >= 30
