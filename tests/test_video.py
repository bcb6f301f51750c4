"""Emotion over time: which frames are seen, how they are smoothed, going on, and memory."""

import csv
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tools import command

from deepconnotation import predict, video
from deepconnotation.console import UserError
from deepconnotation.data.sources import toy

av = pytest.importorskip("av", reason="the extra [video] is not installed")


def film(path, emotions, seconds=4, rate=10, side=48):
    """Write a film that shows a drawn picture of each emotion for some seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = side
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for emotion in emotions:
            frame = av.VideoFrame.from_ndarray(toy.draw(emotion, 1, side), format="rgb24")
            for _ in range(seconds * rate):
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return film(tmp_path_factory.mktemp("film") / "short.mp4", ["awe", "anger"])


def rows_of(folder):
    return list(csv.DictReader((folder / "emotions.csv").read_text().splitlines()))


def probabilities(rows):
    return np.array([[float(v) for k, v in row.items() if k.startswith("p_")] for row in rows])


def test_frames_and_smoothing_by_hand(toy_run, short, tmp_path):
    for smooth in ("0", "1.5"):
        done = command("video", toy_run.path, short, "--every", "0.5", "--smooth", smooth,
                       "--out", tmp_path / smooth)  # fmt: skip
        assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "0")
    assert [float(row["time"]) for row in rows] == pytest.approx(np.arange(0, 8, 0.5))
    raw, smoothed = probabilities(rows), probabilities(rows_of(tmp_path / "1.5"))
    expected, decay = [raw[0]], np.exp(-0.5 / 1.5)
    for p in raw[1:]:
        expected.append(decay * expected[-1] + (1 - decay) * p)
    assert np.allclose(smoothed, expected, atol=1e-5)
    # Each half of the film holds still, and is answered as its picture would be.
    assert np.allclose(raw[1:8], raw[1], atol=0.05) and np.allclose(raw[9:], raw[9], atol=0.05)
    with av.open(str(short)) as container:
        frame = next(container.decode(video=0)).to_image()
    frame.save(tmp_path / "frame.png")
    (row,) = predict.predict(toy_run, [tmp_path / "frame.png"])
    assert np.allclose(raw[0], row["probabilities"], atol=1e-4)
    assert (tmp_path / "0/emotions.png").stat().st_size > 5000


def test_it_goes_on_where_it_was_left(toy_run, short, tmp_path):
    whole, part = tmp_path / "whole/emotions.csv", tmp_path / "part/emotions.csv"
    video.watch(toy_run, str(short), whole, 0.5, 2.0, None)
    video.watch(toy_run, str(short), part, 0.5, 2.0, 3.0)
    assert 0 < len(rows_of(tmp_path / "part")) < 8
    with open(part, "a") as file:
        file.write("3.5,aw")  # killed in the middle of a row
    video.watch(toy_run, str(short), part, 0.5, 2.0, None)
    times = [[row["time"] for row in rows_of(tmp_path / name)] for name in ("whole", "part")]
    assert times[0] == times[1]
    pair = [probabilities(rows_of(tmp_path / name)) for name in ("whole", "part")]
    assert np.allclose(*pair, atol=1e-4)


def test_a_full_disk_is_told(toy_run, short, tmp_path, monkeypatch):
    table = tmp_path / "emotions.csv"
    monkeypatch.setattr(video, "write_atomic", lambda *_: table.symlink_to("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        video.watch(toy_run, str(short), table, 0.5, 2.0, None)


@pytest.mark.parametrize("share", [0.5, 1])
def test_valence_and_arousal_are_followed_too(toy_run, short, tmp_path, monkeypatch, share):
    settings = {**toy_run.config["settings"], "affect": "ccc", "affect_share": share}
    found = replace(toy_run, config={**toy_run.config, "settings": settings})
    log_p, said = np.log(np.full((1, 8), 1 / 8, np.float32)), iter(range(100))

    def answer(images):
        told = np.array([[next(said) / 16, -0.5] for _ in images], np.float32)
        return np.repeat(log_p, len(images), axis=0), told

    monkeypatch.setattr(predict, "answering", lambda _: answer)
    path = tmp_path / "emotions.csv"
    video.watch(found, str(short), path, 0.5, 1.5, 4.0)
    video.watch(found, str(short), path, 0.5, 1.5, None)
    rows = rows_of(tmp_path)
    classes = ["label", "confidence", *(f"p_{c}" for c in toy_run.classes)]
    assert [*rows[0]] == ["time", *(classes if share < 1 else []), "valence", "arousal"]
    expected, decay = [0.0], np.exp(-0.5 / 1.5)
    for number in range(1, 16):
        expected.append(decay * expected[-1] + (1 - decay) * number / 16)
    assert [float(row["valence"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert {row["arousal"] for row in rows} == {"-0.500000"}
    if share < 1:
        assert np.allclose(probabilities(rows), 1 / 8)
    with Image.open(tmp_path / "emotions.png") as image:
        assert (image.height > 600) == (share < 1)  # a panel for each
    with pytest.raises(UserError, match="other columns"):
        video.watch(toy_run, str(short), path, 0.5, 1.5, None)


@pytest.mark.parametrize(("clockwise", "matrix"), [
    (90, [0, 1, -1, 0]), (180, [-1, 0, 0, -1]), (270, [0, -1, 1, 0]),
])  # fmt: skip
def test_a_phones_frames_are_turned_upright(clockwise, matrix, tmp_path):
    """QuickTime's matrix maps (x, y) to (a x + c y, b x + d y); y goes down."""
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16] = 255, 0, 0
    upright[:, :16] = 0, 0, 255
    stored = np.ascontiguousarray(np.rot90(upright, clockwise // 90))  # counterclockwise
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        (stream.height, stream.width), stream.pix_fmt = stored.shape[:2], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    track = content.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes
    a, b, c, d = (value << 16 for value in matrix)
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert content[track : track + 36] == identity
    path.write_bytes(content[:track] + turned + content[track + 36 :])
    ((_, image),) = video._frames(str(path), 0.5, 0.0, None)
    assert np.abs(np.asarray(image).astype(int) - upright).mean() < 12


def test_what_is_no_video_is_said(toy_run, short, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    for words, message in (
        ([tmp_path / "broken.mp4"], "broken.mp4: Invalid data"),
        ([tmp_path / "gone.mp4"], "gone.mp4: No such file"),
        (["/dev/video99"], "/dev/video99: No such file"),
        ([short, "--every", "0"], "--every"),
    ):
        done = command("video", toy_run.path, *words, "--out", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_another_films_table_is_left_as_it_is(toy_run, short, tmp_path):
    table = tmp_path / "out/emotions.csv"
    video.watch(toy_run, str(short), table, 0.5, 2.0, 3.0)
    before = table.read_bytes()
    other = film(tmp_path / "other.mp4", ["fear", "awe", "sadness"])
    for words, what in (
        ((str(other), table, 0.5, 2.0, None), "video"),
        ((str(short), table, 1.0, 2.0, None), "--every"),
        ((str(short), table, 0.5, 0.0, None), "--smooth"),
    ):
        with pytest.raises(UserError, match=f"emotions.csv is of another {what}; choose"):
            video.watch(toy_run, *words)
    (tmp_path / "out/asked.json").write_text("{")
    with pytest.raises(UserError, match="asked.json"):
        video.watch(toy_run, str(short), table, 0.5, 2.0, None)
    (tmp_path / "out/asked.json").unlink()
    with pytest.raises(UserError, match="of another run"):
        video.watch(toy_run, str(short), table, 0.5, 2.0, None)
    assert table.read_bytes() == before
    table.write_text("time,label\n")  # not even of ours
    done = command("video", toy_run.path, short, "--out", table.parent)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "of another run" in done.stderr and table.read_text() == "time,label\n"


def test_a_cameras_time_goes_on(toy_run, short, tmp_path, monkeypatch):
    """A film stands in for the camera: its clock, too, begins anew every time it is opened."""
    table, opened = tmp_path / "emotions.csv", av.open
    monkeypatch.setattr(av, "open", lambda camera, format: opened(str(short)))
    video.watch(toy_run, "/dev/video0", table, 0.5, 2.0, 2.0)
    video.watch(toy_run, "/dev/video0", table, 0.5, 2.0, 4.0)
    assert [float(row["time"]) for row in rows_of(tmp_path)] == pytest.approx(
        np.arange(0, 4.25, 0.5)
    )


@pytest.mark.slow
def test_memory_is_flat_over_an_hour(toy_run, tmp_path):
    code = (  # not getrusage: what the parent used before the fork counts there
        "import re, sys\n"
        "from deepconnotation import video\n"
        "video.main(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    peaks = []
    for minutes in (3, 60):
        path = film(tmp_path / f"{minutes}.mp4", ["awe", "fear"], minutes * 30, rate=5)
        words = [str(toy_run.path), str(path), "--out", str(tmp_path / str(minutes))]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True,
                              check=True)  # fmt: skip
        peaks.append(int(done.stdout.split()[-1]) // 1024)
    print(f"largest memory, MiB: {peaks}")
    assert peaks[1] < 1.15 * peaks[0]
