"""The audit finds what was planted, and what is known of the real data sets."""

import csv
import hashlib
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import laplace
from sklearn.metrics import cohen_kappa_score
from tools import tool

from deepconnotation.data import audit, manifest, measure, prepare
from deepconnotation.data.sources import toy
from deepconnotation.emotions import FI


def report(*arguments, out):
    done = tool("audit.py", *arguments, "--out", out)
    return done, json.loads((out / "audit.json").read_text())


def test_sharpness_is_the_variance_of_scipys_laplacian():
    grey = np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.float32)
    laplacian = laplace(grey.astype(np.float64))[1:-1, 1:-1]
    assert measure.sharpness(grey) == pytest.approx(np.log10(laplacian.var() + 1), rel=1e-5)
    assert measure.sharpness(np.full((8, 8), 77, np.float32)) == 0


def test_what_is_measured_of_a_picture(tmp_path):
    greys = np.random.default_rng(0).integers(20, 230, (60, 90, 1), np.uint8)
    # red and green, and green and blue, lie one grey level apart, or two
    ways = {f"{k}.png": greys + np.array([0, k, 0], np.uint8) for k in (0, 1, 2)}
    for name, pixels in ways.items():
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"")
    names = [*ways, "broken.png", "gone.png"]
    table = pd.DataFrame({"path": [str(tmp_path / name) for name in names]})
    found, thumbnails = measure.measure(table)
    assert found["mode"].tolist() == ["grey RGB", "grey RGB", "RGB", "", ""]
    assert found["problem"].tolist() == ["", "", "", "empty", "unreadable"]
    assert found["width"].tolist() == [90] * 3 + [0, 0] and found["height"][0] == 60
    assert found["sha256"][1] == hashlib.sha256((tmp_path / "1.png").read_bytes()).hexdigest()
    assert found["sharpness"][0] > 1 and (found["sharpness"][3:] == 0).all()
    assert thumbnails.shape == (5, 32, 32) and thumbnails[0].std() > 1 and not thumbnails[3:].any()
    # What a manifest knows of the original stays.
    known = table.assign(sha256=["a", "", "", "", ""], width=["400", "", "", "", ""])
    again, _ = measure.measure(known)
    assert again["sha256"].tolist() == ["a", *found["sha256"][1:]]
    assert again["width"].tolist() == [400, *found["width"][1:]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Twelve drawn pictures a class, and a sign at several sizes, copies, contradictions."""
    root = tmp_path_factory.mktemp("planted") / "pictures"
    sign = Image.fromarray(toy.draw("awe", 999, 96))
    for n, emotion in enumerate(FI.classes):
        (root / emotion).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(toy.draw(emotion, i, 64)).save(root / emotion / f"{emotion}{i}.png")
        sign.resize((80 + n, 80 + n)).save(root / emotion / "gone.jpg", quality=80 + n)
    copy = (root / "fear/fear0.png").read_bytes()
    (root / "fear/copy.png").write_bytes(copy)
    nearly = ImageEnhance.Brightness(Image.open(root / "anger/anger1.png")).enhance(1.02)
    nearly.save(root / "disgust/nearly.jpg", quality=90)
    (root / "sadness/broken.jpg").write_bytes(b"\xff\xd8\xff")
    return root


def test_what_was_planted_is_found(planted, tmp_path):
    done, found = report(planted, out=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [sorted(group) for group in found["signs"]] == [
        sorted(f"{emotion}/gone.jpg" for emotion in FI.classes)
    ]
    assert [set(g) for g in found["exact"]] == [{"fear/fear0.png", "fear/copy.png"}]
    near = {"anger/anger1.png", "disgust/nearly.jpg"}
    assert near in [set(pair) for pair in found["near"]]
    assert near in [set(pair) for pair in found["conflicts"]]
    assert found["unreadable"] == [{"source": "sadness/broken.jpg", "reason": "truncated"}]
    assert found["classes"][""]["fear"] == 14
    assert "placeholders         FOUND: 8 pictures, 1 signs" in done.stdout
    page = (tmp_path / "audit.html").read_text()
    assert page.count("data:image/jpeg") > 10 and "broken.jpg" in page


def test_names_cannot_write_the_page(planted, tmp_path):
    source = tmp_path / "<script>"
    shutil.copytree(planted, source)
    (source / "fear/fear0.png").rename(source / "fear/<script>.png")
    done, found = report(source, "--drop", "awe", out=tmp_path)
    assert done.returncode == 0 and {"fear/<script>.png", "fear/copy.png"} in map(
        set, found["exact"]
    )
    assert "<script>" not in (tmp_path / "audit.html").read_text()


@pytest.fixture()
def leaky(toy_source, tmp_path):
    """A prepared data set spoiled afterwards: a copy, a near copy and a person cross splits."""
    out = tmp_path / "leaky"
    prepare.prepare(toy_source, out, 32, fractions="60/20/20", workers=1)
    table, info = manifest.read(out), manifest.read_info(out)
    train, test = (table[table["split"] == s].reset_index(drop=True) for s in ("train", "test"))
    rows = []
    for k, (row, quality) in enumerate(((train.iloc[0], None), (train.iloc[1], 70))):
        row = row.copy()
        row["id"] = row["source"] = f"leak{k}"
        row["split"], file = "test", manifest.file_of("test", row["label"], f"leak{k}")
        if quality is None:
            (out / file).write_bytes((out / row["file"]).read_bytes())
        else:
            Image.open(out / row["file"]).save(out / file, quality=quality)
            row["sha256"] = "0" * 64
        row["file"] = file
        rows.append(row)
    table = manifest.read(out)
    table.loc[table["id"].isin([train.at[5, "id"], test.at[0, "id"]]), "group"] = "ann"
    table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    manifest.write(out, manifest.to_csv(table), info)
    return out


def test_leaks_are_found_and_fail(leaky, toy_data, tmp_path):
    done, found = report(leaky, "--fail-on", "leakage,placeholders", out=tmp_path / "a")
    assert done.returncode == 1 and "leakage" in done.stderr
    leaks = found["leaks"]
    assert len(leaks["exact"]) == 1 and "leak0" in leaks["exact"][0]
    assert len(leaks["near"]) == 1 and "leak1" in leaks["near"][0]
    assert leaks["groups"] == ["ann"] and leaks["derived"] == []
    done, _ = report(toy_data, "--fail-on", "leakage,placeholders", out=tmp_path / "b")
    assert done.returncode == 0, done.stderr
    done = tool("audit.py", toy_data, "--fail-on", "dust", "--out", tmp_path / "c")
    assert done.returncode == 2 and "--fail-on dust" in done.stderr
    done = tool("audit.py", toy_data, "--drop", "awe", "--out", tmp_path / "c")
    assert done.returncode == 2 and "is prepared and has its classes" in done.stderr


def test_copies_that_left_the_training_split(toy_data, tmp_path):
    done = tool("balance.py", toy_data, "--up-to", 8, "--out", tmp_path / "even")
    assert done.returncode == 0, done.stderr
    done, found = report(tmp_path / "even", out=tmp_path / "a")
    assert not any(found["leaks"].values()) and not found["exact"]
    table, info = manifest.read(tmp_path / "even"), manifest.read_info(tmp_path / "even")
    astray = table.index[table["derived_from"] != ""][0]
    table.loc[astray, "split"] = "test"
    manifest.move_to(tmp_path / "even", table, info)
    done, found = report(tmp_path / "even", "--fail-on", "leakage", out=tmp_path / "a")
    assert done.returncode == 1 and len(found["leaks"]["derived"]) == 1


def test_a_shortcut_by_size_is_found(tmp_path):
    """Two classes of noise: the same pictures, but one class is wider. Without that, nothing."""
    rng = np.random.default_rng(0)
    for name, wide in (("wide", 20), ("equal", 0)):
        for k, emotion in enumerate(("awe", "fear")):
            folder = tmp_path / name / emotion
            folder.mkdir(parents=True)
            for i in range(40):
                pixels = rng.integers(0, 255, (32, 32 + wide * k, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{emotion}{i}.png")
    _, found = report(tmp_path / "wide", out=tmp_path / "a")
    assert found["shortcuts"]["one"]["size"] == 1 and found["shortcuts"]["found"]
    _, found = report(tmp_path / "equal", out=tmp_path / "b")
    assert not found["shortcuts"]["found"] and found["shortcuts"]["all"] < 0.7


def test_second_annotator(planted, tmp_path):
    labels = ["awe"] * 6 + ["fear"] * 6
    second = ["awe", "awe", "awe", "anger", "fear", "fear"] + ["fear"] * 5 + ["awe"]
    names = [f"awe/awe{i}.png" for i in range(6)] + [f"fear{i}.png" for i in range(6)]
    with open(tmp_path / "second.csv", "w", newline="") as file:
        csv.writer(file).writerows([("source", "label"), *zip(names, second, strict=True)])
    _, found = report(planted, "--second", tmp_path / "second.csv", out=tmp_path / "a")
    assert found["agreement"]["pictures"] == 12
    assert found["agreement"]["agree"] == pytest.approx(8 / 12)
    assert found["agreement"]["kappa"] == pytest.approx(cohen_kappa_score(labels, second))


@pytest.mark.parametrize("cleanlab", [True, False])
def test_suspects_are_the_swapped_labels(cleanlab, monkeypatch):
    """Bright and dark pictures, of which four carry the other's label."""
    if cleanlab:
        pytest.importorskip("cleanlab", reason="pip install deepconnotation[label-quality]")
    else:
        monkeypatch.setitem(sys.modules, "cleanlab.rank", None)
    rng = np.random.default_rng(0)
    rows, thumbnails = [], []
    for i in range(200):
        dark = i % 2
        level = 70 if dark else 180
        thumbnails.append(np.clip(rng.normal(level, 25, (32, 32)), 0, 255).astype(np.uint8))
        swapped = i in (10, 31, 100, 151)
        rows.append({"source": str(i), "label": ("awe", "fear")[dark ^ swapped]})
    table = pd.DataFrame(rows)
    folds = audit.folds_of(table["label"].to_numpy(), np.arange(200))
    found = audit.suspects(table, np.stack(thumbnails), folds)
    assert {f["source"] for f in found[:4]} == {"10", "31", "100", "151"}
    assert all(f["label"] != f["instead"] for f in found[:4])


def test_facial_expressions_as_known(real_data, tmp_path):
    """Two identical pairs, about 16 nearly identical, and one contributor's RGB pictures."""
    done, found = report(real_data / "facial_expressions", "--dataset", "facial_expressions",
                         out=tmp_path)  # fmt: skip
    assert len(found["exact"]) == 2 and all(len(g) == 2 for g in found["exact"])
    assert 12 <= len(found["near"]) <= 24
    rgb = found["holds"]["mode"]["RGB"]
    assert (round(rgb["disgust"], 2), round(rgb["sadness"], 2), round(rgb["neutral"], 2)) == (
        0.94, 0.54, 0.02,
    )  # fmt: skip
    shortcuts = found["shortcuts"]
    assert shortcuts["found"]
    assert min(shortcuts["one"][n] for n in ("colour mode", "contributor")) > 1.5 / 8
    assert found["classes"][""]["contempt"] == 9
    # One name with two labels, 7 that occur twice, 36 files without a label.
    assert found["not_taken"] == {"conflicting_labels": 2, "repeated_row": 7, "no_label": 36}


@pytest.mark.slow
def test_every_sign_and_copy_of_fi(real_data, tmp_path):
    """Counted by digest alone: one sign 1,356 times in eight classes, 19 groups of copies."""
    done, found = report(real_data / "fi/images", "--dataset", "fi", out=tmp_path)
    assert [len(group) for group in found["signs"]] == [1356]
    assert len({s.split("/")[0] for s in found["signs"][0]}) == 8
    assert len(found["exact"]) == 19 and sum(map(len, found["exact"])) == 40
