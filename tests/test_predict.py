"""The predict command as a person runs it."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pictures
import pytest
import server
from tools import command

from deepconnotation import run
from deepconnotation.data.decode import decode


def predict(*arguments, stdin: str = "") -> subprocess.CompletedProcess:
    return command("predict", *arguments, stdin=stdin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return folder, pictures.write_all(folder)


def test_every_file_has_a_row_and_none_ends_the_run(toy_run, folder):
    path, expected = folder
    (path / "Thumbs.db").write_bytes(b"x")
    done = predict(toy_run.path, path, path / "missing.jpg", "--json")
    assert done.returncode == 3, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {r["file"].rsplit("/", 1)[1]: r for r in rows}
    assert len(rows) == len(expected) + 2
    assert [r["file"] for r in rows[:-1]] == sorted(r["file"] for r in rows[:-1])
    for name, reason in expected.items():
        if reason == "ok":
            assert found[name]["status"] == "ok"
            assert sum(found[name]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        else:
            assert found[name]["status"] == "rejected"
            assert found[name]["reason"].startswith(f"{reason}: ")
    assert found["Thumbs.db"]["status"] == "skipped"
    assert found["missing.jpg"]["reason"].startswith("unreadable: No such file")
    assert f"{sum(v == 'ok' for v in expected.values())} ok" in done.stderr


def test_a_list_of_addresses_is_fetched_once_and_answered(toy_run, tmp_path):
    host = server.Host()
    paths = ["/ok/1", "/status/404", "/to//photo_unavailable.png", "/html", "/ok/2", "/ok/1",
             *(f"/gzip?{i}" for i in range(6))]  # fmt: skip
    urls = [host.url(path) for path in paths]
    text = "".join(f"{i};{url}\n" for i, url in enumerate(urls))
    (tmp_path / "mine.CSV").write_text(f"post;URL\n{text}")
    asked = (toy_run.path, tmp_path / "mine.CSV", "--json")
    done = predict(*asked, "--allow-private-hosts")
    assert done.returncode == 3, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == urls
    reasons = [row.get("reason", "").partition(":")[0] for row in rows]
    assert reasons == ["", "gone", "placeholder", "html", *[""] * 8]  # repeated bytes are answered
    assert rows[0] == rows[5] and set(rows[2]) == {"file", "status", "reason"}
    (tmp_path / "1.jpg").write_bytes(server.picture(1))
    (alone,) = predict(toy_run.path, tmp_path / "1.jpg", "--json").stdout.splitlines()
    assert rows[0]["probabilities"] == json.loads(alone)["probabilities"]
    before = dict(host.asked)
    assert predict(*asked, "--allow-private-hosts").stdout == done.stdout
    assert dict(host.asked) == before
    shutil.rmtree(tmp_path / "mine-originals")
    assert "private_address" in predict(*asked).stdout  # a list from elsewhere asks nobody here
    (tmp_path / "other.csv").write_text("file\n1.jpg\n")
    done = predict(toy_run.path, tmp_path / "other.csv")
    assert done.returncode == 2 and "other.csv row 1: no column 'url' in 'file'" in done.stderr


def test_answers_are_the_models(toy_run, tmp_path):
    for i in range(40):  # more than one batch
        data = pictures.encode(pictures.quarters(16 + 2 * i), "PNG")
        (tmp_path / f"{i:02}.png").write_bytes(data)
    done = predict(toy_run.path, tmp_path, "--csv")
    assert done.returncode == 0
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    pixels = np.stack([decode(p.read_bytes(), (16, 16)).pixels for p in sorted(tmp_path.iterdir())])
    logits = toy_run.model.predict(pixels, verbose=0) / toy_run.config["temperature"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = np.array([[float(r[f"p_{c}"]) for c in toy_run.classes] for r in rows])
    assert np.abs(found - expected).max() < 1e-5
    assert [r["label"] for r in rows] == [toy_run.classes[i] for i in expected.argmax(axis=1)]
    assert all(r["confidence"] == max(r[f"p_{c}"] for c in toy_run.classes) for r in rows)


def test_names_from_standard_input(toy_run, tmp_path):
    names = ["=1+1.jpg", "-rf.jpg", 'a,"b"#1 %41.jpg', "café 空.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(pictures.jpeg())
    lines = "".join(f"{tmp_path / n}\n" for n in names) + "\n"
    done = predict(toy_run.path, "-", "--csv", stdin=lines)
    assert done.returncode == 0, done.stderr
    found = [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert found == [str(tmp_path / n) for n in names]
    assert done.stderr == "4 ok\n"  # few pictures need no bar
    done = predict(toy_run.path, "-", stdin=lines * 40)
    assert len(done.stdout.splitlines()) == 160
    assert re.fullmatch(r"pictures: 160 \(\d+ a second\)\n160 ok\n", done.stderr)


def test_names_that_are_no_text_and_formulas(toy_run, tmp_path):
    (tmp_path / "=x.jpg").write_bytes(pictures.jpeg())
    done = command("predict", toy_run.path, "=x.jpg", "--csv", cwd=tmp_path)
    assert "\n'=x.jpg,ok," in done.stdout
    with open(bytes(tmp_path) + b"/\xff.jpg", "wb") as file:
        file.write(pictures.jpeg())
    words = [sys.executable, "-m", "deepconnotation.predict", toy_run.path, tmp_path]
    done = subprocess.run(words, capture_output=True)
    assert done.returncode == 0 and b"/\xff.jpg\n" in done.stdout
    (tmp_path / "two\nlines\x1b[2J.jpg").write_bytes(b"")
    done = command("predict", toy_run.path, tmp_path / "two\nlines\x1b[2J.jpg")
    assert done.stdout.count("\n") == 1 and r"two\x0alines\x1b[2J.jpg: empty" in done.stdout
    shutil.copytree(toy_run.path, tmp_path / "signs")
    run.load(tmp_path / "signs").update(classes=[f"-{i}" for i in range(8)])
    told = command("predict", tmp_path / "signs", tmp_path / "=x.jpg", "--csv").stdout
    (row,) = csv.DictReader(io.StringIO(told))
    assert row["label"][:2] == "'-" and f"p_{row['label'][1:]}" in row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere", "x.jpg"], "/nowhere: no run.json there"),
        (["/dev/null", "x.jpg"], "/dev/null: no run.json there"),
        (["/two\nlines", "x.jpg"], r"/two\x0alines: no run.json there"),
        (["{run}", "{empty}"], "no picture in"),
        (["{run}", "-"], "no picture in"),
        (["{run}"], "IMAGE|DIR|CSV|-"),
    ],
)
def test_bad_use(toy_run, tmp_path, arguments, message):
    filled = [a.format(run=toy_run.path, empty=tmp_path) for a in arguments]
    done = predict(*filled, stdin="")
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_bad_pictures_through_predict(toy_run, real_data):
    folder = real_data / "bad_pictures"
    with open(folder / "expectations.csv", encoding="utf-8") as file:
        expected = {row["file"]: row["expected"] for row in csv.DictReader(file)}
    done = predict(toy_run.path, folder, "--json")
    assert done.returncode == 3
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {r["file"].rsplit("/", 1)[1]: r["status"] for r in rows}
    assert set(expected) | {"expectations.csv"} == set(found)
    for name, what in expected.items():
        allowed = {"ok": {"ok"}, "reject": {"rejected"}, "skip": {"skipped"},
                   "any": {"ok", "rejected"}}[what]  # fmt: skip
        assert found[name] in allowed, name
