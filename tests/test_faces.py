"""Faces are found in larger pictures, cut out, and answered as pictures that were cut by hand."""

import csv
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools import command

from deepconnotation import card, explain, export, predict, prepare, run, train, video
from deepconnotation.console import UserError
from deepconnotation.data import faces, manifest
from deepconnotation.data.prepare import prepare as prepare_source
from deepconnotation.data.sources import Item, Source
from deepconnotation.emotions import EmotionSet
from deepconnotation.settings import Settings

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


def test_a_face_that_fills_the_picture_is_found_and_left_whole(scene, real_data):
    left, top, side = PLACES[0]
    (box,) = faces.find(scene.crop((left, top, left + side, top + side)))
    assert overlap(box, (0, 0, side)) > 0.85
    selfie = Image.new("RGB", (1000, 600), "tan")
    for (left, top, side), place in zip(PLACES, ((20, 20, 560), (700, 300, 200)), strict=False):
        face = scene.crop((left, top, left + side, top + side))
        selfie.paste(face.resize((place[2], place[2])), place[:2])
    large, small = faces.find(selfie)
    assert overlap(large, (20, 20, 560)) > 0.75 and overlap(small, (700, 300, 200)) > 0.75
    originals = sorted((real_data / "facial_expressions/originals").iterdir())[::5]
    counts = [len(faces.find(Image.open(path).convert("RGB"))) for path in originals]
    assert np.mean(np.equal(counts, 1)) >= 0.85  # without surroundings .64


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


def test_a_thread_that_comes_while_the_detector_is_loaded_waits_for_it():
    code = """
        import threading, time
        from deepconnotation.data import faces
        found = []
        def look():
            found.append(faces.opencv().data.haarcascades)
        threads = [threading.Thread(target=look) for _ in range(100)]
        for thread in threads:
            thread.start()
            time.sleep(0.003)
        for thread in threads:
            thread.join()
        assert len(found) == 100
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert done.returncode == 0, done.stderr


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
    faces.opencv.cache_clear()
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


def test_pictures_are_prepared_as_faces_and_asked_alike(scene, real_data, tmp_path, capsys):
    originals = sorted((real_data / "facial_expressions/originals").iterdir())[:12]
    for number, name in enumerate(originals):
        folder = tmp_path / "people" / ("anger", "fear")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        photograph = scene.crop((0, 400, 360, 600)).resize((720, 500))
        photograph.paste(Image.open(name).convert("RGB").resize((90, 90)), (30, 40))
        photograph.paste(Image.open(name).convert("RGB").resize((260, 260)), (20 * number, 200))
        photograph.save(folder / f"{number}.png")
    scene.crop((0, 400, 360, 600)).save(folder / "nobody.png")
    words = [str(tmp_path / "people"), "--size", "32", "--out", str(tmp_path / "data"),
             "--fractions", "50/50", "--allow-missing"]  # fmt: skip
    prepare.main([*words, "--faces"])
    assert "not taken, no_face: 1" in capsys.readouterr().out
    table = manifest.read(tmp_path / "data")
    assert len(table) == 12 and manifest.read_info(tmp_path / "data").faces
    for row in table.itertuples():
        image = Image.open(tmp_path / "people" / row.source).convert("RGB")
        (box, pixels), *_ = faces.cut(image, (32, 32))
        number = int(Path(row.source).stem)
        assert overlap(box, (20 * number, 200, 260)) > 0.75
        taken = np.asarray(Image.open(tmp_path / "data" / row.file).convert("RGB"), float)
        assert np.abs(taken - pixels).mean() < 2  # JPEG
    with pytest.raises(UserError, match="other settings"):
        prepare.main(words)

    settings = Settings(epochs=1, batch=8, precision="float32")
    assert train.start("small_cnn", tmp_path / "data", tmp_path / "run", settings) == 0
    found = run.load(tmp_path / "run")
    assert "cut to the largest face" in (found.path / "card.md").read_text()
    assert "upright, cut to the face" in export.info(found)
    assert card.question(found.config).startswith("Which expression do people see in a face")
    asked = found.path, tmp_path / "people/anger"
    by_itself, cut, whole = (
        list(csv.DictReader(command("predict", *asked, "--csv", *more).stdout.splitlines()))
        for more in ((), ("--faces",), ("--no-faces",))
    )
    assert by_itself == cut and len(cut) == 12 and len(whole) == 6 and "box" not in whole[0]
    assert cut[0]["confidence"] != whole[0]["confidence"]


def test_faces_are_not_looked_for_where_their_places_are_told(tmp_path):
    item = Item("a.png", "a", tmp_path / "a.png", box=(0, 0, 9, 9))
    source = Source("told", EmotionSet("told", ("a",), ""), [item], [], "")
    with pytest.raises(UserError, match="--faces: told tells where its faces are"):
        prepare_source(source, tmp_path / "data", 32, cut_faces=True)
