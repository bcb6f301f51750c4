"""Faces are found in larger pictures, cut out, and answered as pictures that were cut by hand."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image
from tools import command

from deepconnotation import explain, predict, video
from deepconnotation.console import UserError
from deepconnotation.data import faces

pytest.importorskip("cv2", reason="the extra [faces] is not installed")

PLACES = [(40, 60, 260), (500, 20, 150), (380, 260, 200)]  # left, top and side of each face


@pytest.fixture(scope="module")
def scene(real_data):
    """Three faces of facial_expressions in a picture of 800 by 600 pixels."""
    folder = real_data / "facial_expressions/originals"
    if not folder.is_dir():
        pytest.skip(f"no facial_expressions/originals in {real_data}")
    slope = np.linspace(40, 200, 800)[None, :, None] * np.array([1, 0.9, 0.8])
    picture = Image.fromarray(np.broadcast_to(slope, (600, 800, 3)).astype(np.uint8))
    for name, (left, top, side) in zip(sorted(folder.iterdir())[3:6], PLACES, strict=True):
        picture.paste(Image.open(name).convert("RGB").resize((side, side)), (left, top))
    return picture


def overlap(box, place) -> float:
    """Intersection over union of a box and the square of a place."""
    left, top, side = place
    right, bottom = left + side, top + side
    width = min(box[2], right) - max(box[0], left)
    height = min(box[3], bottom) - max(box[1], top)
    both = max(width, 0) * max(height, 0)
    return both / ((box[2] - box[0]) * (box[3] - box[1]) + side**2 - both)


@pytest.mark.parametrize("size", [(800, 600), (3200, 2400)])
def test_they_are_found_the_largest_first(scene, size):
    factor = size[0] / 800
    boxes = faces.find(scene.resize(size))
    largest_first = sorted(PLACES, key=lambda place: -place[2])
    assert len(boxes) == 3
    for box, place in zip(boxes, largest_first, strict=True):
        assert overlap([edge / factor for edge in box], place) > 0.75
    assert faces.find(scene.crop((0, 400, 360, 600))) == []


def test_each_face_is_answered_as_one_cut_by_hand(scene, toy_run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright, stored lying
    stored = scene.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "people.png", exif=exif)
    scene.crop((0, 400, 360, 600)).save(tmp_path / "nobody.png")
    words = [toy_run.path, tmp_path / "people.png", tmp_path / "nobody.png", "--faces"]
    done = command("predict", *words, "--json")
    assert done.returncode == predict.SOME_FAILED and "3 ok, 1 rejected" in done.stderr
    *rows, nobody = map(json.loads, done.stdout.splitlines())
    assert nobody["reason"] == "no_face: no face was found" and "box" not in nobody
    assert [tuple(row["box"]) for row in rows] == faces.find(scene)
    for row in rows:
        scene.crop(row["box"]).save(tmp_path / "face.png")
        (by_hand,) = predict.predict(toy_run, [tmp_path / "face.png"])
        told = dict(zip(toy_run.classes, by_hand["probabilities"], strict=True))
        assert row["probabilities"] == pytest.approx(told, abs=1e-6)
    table = list(csv.DictReader(command("predict", *words, "--csv").stdout.splitlines()))
    assert [row["box"] for row in table] == [" ".join(map(str, r["box"])) for r in rows] + [""]
    shown = command("predict", *words).stdout.splitlines()
    assert shown[0].endswith(f"people.png {rows[0]['box']}") and "no_face" in shown[3]


def test_each_face_is_explained(scene, toy_run, tmp_path, capsys):
    scene.save(tmp_path / "people.png")
    page = tmp_path / "why.html"
    words = [str(toy_run.path), str(tmp_path / "people.png"), "--faces", "--out", str(page)]
    assert explain.main(words) == 0
    assert "explained: 3 pictures" in capsys.readouterr().out
    assert page.read_text().count("people.png") >= 3
    with pytest.raises(UserError, match="--faces: name the pictures"):
        explain.main([str(toy_run.path), "--faces"])


def test_the_demo_answers_the_faces(scene, toy_run, tmp_path):
    pytest.importorskip("gradio", reason="the extra [demo] is not installed")
    from deepconnotation.demo_page import Page

    scene.save(tmp_path / "people.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "nobody.png")
    paths = [str(tmp_path / name) for name in ("people.png", "nobody.png")]
    page = Page(toy_run, tmp_path, faces=True)
    words, bars, *_ = page.answer(paths[0])
    assert words.endswith("The largest of 3 faces.") and set(bars) == set(toy_run.classes)
    assert "no face was found" in page.answer(paths[1])[0]
    words, shown, table, _ = page.answer_all(paths)
    assert words == "3 faces in 2 pictures answered."
    sides = [picture.width for picture, _ in shown]
    assert sides == sorted(sides, reverse=True) and len(table) == 4


def test_without_opencv_it_is_said_what_to_install(toy_run, tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "any.png")
    monkeypatch.setitem(sys.modules, "cv2", None)
    faces._opencv.cache_clear()
    with pytest.raises(UserError, match=r"--faces needs OpenCV; pip install .*\[faces\]"):
        list(predict.predict(toy_run, [tmp_path / "any.png"], faces=True))


def test_a_films_frames_without_a_face_have_no_row(scene, toy_run, tmp_path, capsys):
    av = pytest.importorskip("av", reason="the extra [video] is not installed")
    path, table = tmp_path / "film.mp4", tmp_path / "out/emotions.csv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 800, 600, "yuv420p", 10**7
        for picture in (Image.new("RGB", (800, 600)), scene):
            for _ in range(20):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    video.watch(toy_run, str(path), table, 0.5, 0.0, None, faces=True)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["time"]) for row in rows] == pytest.approx([2, 2.5, 3, 3.5])
    assert "4 frames have no face that was found" in capsys.readouterr().out
    with av.open(str(path)) as container:
        image = list(container.decode(video=0))[25].to_image()
    (_, pixels), *_ = faces.cut(image, toy_run.size)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    (row,) = predict.predict(toy_run, [tmp_path / "face.png"])
    told = [float(rows[1][f"p_{name}"]) for name in toy_run.classes]
    assert told == pytest.approx(row["probabilities"], abs=1e-3)
    with pytest.raises(UserError, match="film.mp4: no face was found in 2 frames"):
        video.watch(toy_run, str(path), tmp_path / "black/emotions.csv", 0.5, 0, 0.8, faces=True)
    with pytest.raises(UserError, match="emotions.csv is of another --faces"):
        video.watch(toy_run, str(path), table, 0.5, 0.0, None)
