"""Preparation end to end: what is written, what is refused, and what a kill costs."""

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pictures
import pytest
from PIL import Image
from tools import TOOLS, tool

from deepconnotation.console import UserError, alone_in
from deepconnotation.data import engine, manifest, prepare
from deepconnotation.data.sources import folder, toy
from deepconnotation.emotions import FI, emotion_set


def test_layout_is_the_one_that_keras_reads(toy_data):
    table, info = manifest.read(toy_data), manifest.read_info(toy_data)
    assert list(table.columns) == list(manifest.COLUMNS)
    assert info.classes == FI.classes and info.drawn
    for row in table.itertuples():
        assert row.file == f"{row.split}/{row.label}/{row.id}.jpg"
        with Image.open(toy_data / row.file) as image:
            assert image.size == (16, 16)
    on_disk = {p.relative_to(toy_data).as_posix() for p in toy_data.glob("*/*/*.jpg")}
    assert on_disk == set(table["file"])
    record = json.loads((toy_data / "dataset.json").read_text())
    digest = hashlib.sha256((toy_data / "manifest.csv").read_bytes()).hexdigest()
    assert record["manifest_sha256"] == digest == manifest.fingerprint(toy_data)
    assert record["counts"]["test"] == dict.fromkeys(FI.classes, 2)
    labels = json.loads((toy_data / "labels.json").read_text())
    assert sorted(labels) == ["devX", "devY", "testX", "testY", "trainX", "trainY"]
    for file, label in zip(labels["trainX"], labels["trainY"], strict=True):
        assert f"/{FI.classes[label]}/" in file


def test_rejections_placeholders_and_duplicates(tmp_path):
    """Broken and unusual files, a host's sign under many labels, copies, a contradiction."""
    source, out = tmp_path / "source", tmp_path / "out"
    expected = pictures.write_all(source / "awe")
    for emotion in FI.classes:
        (source / emotion).mkdir(exist_ok=True)
        for i in range(10):
            Image.fromarray(toy.draw(emotion, i, 48)).save(source / emotion / f"{emotion}{i}.png")
        (source / emotion / "gone.jpg").write_bytes(pictures.jpeg(pictures.quarters(80, 80)))
    copy = (source / "fear/fear0.png").read_bytes()
    (source / "fear/later_copy.png").write_bytes(copy)
    (source / "anger/contradiction.png").write_bytes((source / "awe/awe0.png").read_bytes())
    (source / "awe/.DS_Store").write_bytes(b"x")

    done = tool("fetch_and_resize.py", source, "--size", 32, "--out", out)
    assert done.returncode == 0, done.stderr
    with open(out / "rejected.csv", newline="") as file:
        reasons = {row["source"]: row["reason"] for row in csv.DictReader(file)}
    for emotion in FI.classes:
        assert reasons[f"{emotion}/gone.jpg"] == "placeholder"
    assert reasons["fear/later_copy.png"] == "duplicate"
    assert reasons["anger/contradiction.png"] == "conflicting_labels" == reasons["awe/awe0.png"]
    assert reasons["awe/.DS_Store"] == "clutter"
    table = manifest.read(out)
    taken = set(table["source"])
    for name, reason in expected.items():
        if reason == "ok":
            # plain.jpg and no_extension are the same bytes: one of them stays.
            assert (f"awe/{name}" in taken) != (reasons.get(f"awe/{name}") == "duplicate")
        else:
            assert reasons[f"awe/{name}"] == reason
    total = sum(1 for p in source.rglob("*") if p.is_file())
    assert len(table) + len(reasons) == total
    assert f"not taken, placeholder: {len(FI.classes)}" in done.stdout


def test_same_result_whatever_the_workers(toy_source, toy_data, tmp_path):
    prepare.prepare(toy_source, tmp_path / "b", 16, fractions="60/20/20", workers=2)
    for name in ("manifest.csv", "rejected.csv", "labels.json"):
        assert (tmp_path / "b" / name).read_bytes() == (toy_data / name).read_bytes()


def test_preparing_again_changes_nothing_and_other_settings_are_refused(toy_source, tmp_path):
    out = tmp_path / "data"
    prepare.prepare(toy_source, out, 16, fractions="60/20/20", workers=1)
    before = (out / "manifest.csv").stat().st_mtime_ns
    prepare.prepare(toy_source, out, 16, fractions="60/20/20", workers=1)
    assert (out / "manifest.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other settings"):
        prepare.prepare(toy_source, out, 24)
    few = toy.read(tmp_path / "drawn", per_class=1)
    with pytest.raises(UserError, match="does not occur in split"):
        prepare.prepare(few, tmp_path / "few", 16, workers=1)
    table = prepare.prepare(few, tmp_path / "few", 16, workers=1, allow_missing=True)
    assert len(table) == 8
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("do not touch")
    with pytest.raises(UserError, match="not empty"):
        prepare.prepare(toy_source, tmp_path / "mine", 16)


def test_one_class_is_no_data_set(tmp_path):
    (tmp_path / "mine/awe").mkdir(parents=True)
    (tmp_path / "mine/awe/1.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="mine: only awe is left; expected two class folders"):
        folder.read(tmp_path / "mine")
    (tmp_path / "mine/fear").mkdir()
    assert folder.read(tmp_path / "mine").emotions.classes == ("awe", "fear")
    with pytest.raises(UserError, match="only fear is left"):
        folder.read(tmp_path / "mine", drops=["awe"])


def test_class_names_that_pandas_takes_for_no_value_or_a_number(tmp_path):
    for i, name in enumerate(["nan", "null", "01"] * 2):
        path = tmp_path / f"mine/{name}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(path)
    source = folder.read(tmp_path / "mine", emotion_set("01,nan,null"))
    prepare.prepare(source, tmp_path / "data", 32, fractions="50/50", workers=1)
    known = json.loads((tmp_path / "data/dataset.json").read_text())
    assert known["classes"] == ["01", "nan", "null"]
    told = {name: sum(part[name] for part in known["counts"].values()) for name in known["classes"]}
    assert told == {"01": 2, "nan": 2, "null": 2}
    assert sorted(manifest.read(tmp_path / "data")["label"].unique()) == known["classes"]


def test_nothing_taken_says_why(tmp_path):
    for name, data in (("awe/1", b""), ("fear/2", b"<html></html>"), ("fear/3", b"<html> </html>")):
        (tmp_path / f"mine/{name}").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"mine/{name}").write_bytes(data)
    source = folder.read(tmp_path / "mine")
    with pytest.raises(UserError, match=r"could be taken \(html 2, empty 1\); .*rejected.csv"):
        prepare.prepare(source, tmp_path / "out", 16, workers=1)


def test_killed_and_resumed_is_byte_equal(many_pictures, tmp_path):
    command = [sys.executable, TOOLS / "fetch_and_resize.py", many_pictures, "--size", "32",
               "--workers", "1", "--out"]  # fmt: skip
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    journal = tmp_path / "killed/.work/journal.jsonl"
    kills = 0
    for lines in (2, 8, 16):
        job = subprocess.Popen([*command, tmp_path / "killed"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)  # fmt: skip
        while job.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
                job.kill()
                kills += 1
                break
            time.sleep(0.01)
        job.communicate(timeout=60)  # until its worker has closed standard error, too: has ended
    assert kills >= 2
    seen = journal.read_bytes().count(b'"sha256"')
    done = subprocess.run([*command, tmp_path / "killed"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < seen < 1600
    for name in ("manifest.csv", "rejected.csv", "labels.json", "dataset.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for file in manifest.read(tmp_path / "whole")["file"]:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not (tmp_path / "killed/.work").exists()


def test_a_worker_that_is_killed_is_told():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(engine.run("local", os._exit, [(9,)], 1))


def test_two_at_work_on_one_data_set_are_refused(toy_source, tmp_path):
    (tmp_path / "d").mkdir()
    with alone_in(tmp_path / "d"), pytest.raises(UserError, match="d: another process is at work"):
        prepare.prepare(toy_source, tmp_path / "d", 16, fractions="60/20/20", workers=1)
    prepare.prepare(toy_source, tmp_path / "d", 16, fractions="60/20/20", workers=1)


def test_split_moves_pictures_and_survives_a_kill(toy_source, tmp_path):
    out = tmp_path / "data"
    prepare.prepare(toy_source, out, 16, fractions="60/20/20", workers=1)
    done = tool("split.py", out, "--fractions", "60/40", "--seed", 3)
    assert done.returncode == 0, done.stderr
    table = manifest.read(out)
    assert set(table["split"]) == {"train", "test"} and not (out / "dev").exists()
    assert all((out / f).exists() for f in table["file"])
    assert "60/40" in manifest.read_info(out).split

    # A kill in the middle: the plan is written, half of the pictures have moved.
    target = table.assign(split=["test"] * 40 + ["train"] * (len(table) - 40))
    files = [manifest.file_of(*r) for r in target[["split", "label", "id"]].itertuples(index=False)]
    expected = manifest.to_csv(target.assign(file=files))
    real_replace, moved = os.replace, []

    def killed_replace(a, b):
        if len(moved) == 10:
            raise KeyboardInterrupt
        moved.append(b) if str(b).endswith(".jpg") else None
        real_replace(a, b)

    os.replace = killed_replace
    try:
        with pytest.raises(KeyboardInterrupt):
            manifest.move_to(out, target, manifest.read_info(out))
    finally:
        os.replace = real_replace
    assert manifest.to_csv(manifest.read(out)) == expected
    assert all((out / f).exists() for f in files)


def test_a_split_tells_of_a_picture_that_is_gone(elsewhere):
    table = manifest.read(elsewhere)
    gone = elsewhere / table["file"][table["split"] == "dev"].iloc[0]
    gone.unlink()
    with pytest.raises(UserError, match=f"{gone}: the picture is gone; prepare the data set again"):
        manifest.move_to(elsewhere, table.assign(split="train"), manifest.read_info(elsewhere))


def test_a_split_is_taken_over_at_another_size(toy_source, toy_data, tmp_path):
    out = tmp_path / "larger"
    prepare.prepare(toy_source, out, 24, fractions="60/20/20", seed=5, workers=1)
    ours, theirs = (manifest.read(d).set_index("source")["split"] for d in (out, toy_data))
    assert not ours.equals(theirs)
    done = tool("split.py", out, "--like", toy_data)
    assert done.returncode == 0, done.stderr
    table = manifest.read(out)
    assert table.set_index("source")["split"].equals(theirs)
    assert all((out / f).exists() for f in table["file"])
    assert manifest.read_info(out).split == manifest.read_info(toy_data).split
    other = replace(toy_source, items=toy_source.items[1:])
    prepare.prepare(other, tmp_path / "fewer", 16, fractions="60/20/20", workers=1)
    before = (tmp_path / "fewer" / "manifest.csv").read_bytes()
    done = tool("split.py", tmp_path / "fewer", "--like", toy_data)
    name = toy_source.items[0].source
    assert done.returncode == 2 and f"'{name}' is one of 1 that only one data set" in done.stderr
    assert (tmp_path / "fewer" / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere", "--out", "x"], "/nowhere: no such folder"),
        (["{}", "--out", "x"], "expected one subfolder a class"),
        (["{}", "--out", "x", "--size", "4"], "--size: '4': expected a whole number from 8"),
        (["{}", "--out", "x", "--dataset", "facial_expressions"], "legend.csv: no such file"),
        (["{}", "--out", "x", "--workers", "0"], "--workers: '0': expected a whole number from 1"),
    ],
)
def test_bad_use_is_one_line_and_status_2(tmp_path, arguments, message):
    done = tool("fetch_and_resize.py", *(a.format(tmp_path) for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_bad_pictures_go_through_preparation(real_data, tmp_path):
    """The drawn bad pictures as one class beside seven of drawn ones."""
    source = tmp_path / "source"
    for emotion in FI.classes[1:]:
        (source / emotion).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(toy.draw(emotion, i, 32)).save(source / emotion / f"{i}.png")
    with open(real_data / "bad_pictures/expectations.csv", encoding="utf-8") as file:
        expected = {row["file"]: row["expected"] for row in csv.DictReader(file)}
    (source / "amusement").mkdir()
    for name in expected:
        data = (real_data / "bad_pictures" / name).read_bytes()
        (source / "amusement" / name).write_bytes(data)
    source = folder.read(source)
    prepare.prepare(source, tmp_path / "out", 32, keep_duplicates=True, workers=1)
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    rejected = {r["source"].removeprefix("amusement/"): r["reason"] for r in rows}
    taken = manifest.read(tmp_path / "out").query("label == 'amusement'")["source"]
    taken = {s.removeprefix("amusement/") for s in taken}
    for name, what in expected.items():
        assert (name in taken) != (name in rejected), name
        if what != "any":
            assert (name in taken) == (what == "ok"), name
        if what == "skip":
            assert rejected[name] == "clutter"
