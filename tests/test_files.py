"""Which files a folder holds."""

import os
import shutil

import pictures
import pytest
from PIL import Image
from tools import command, tool

from deepconnotation import fast
from deepconnotation.cloud import faces
from deepconnotation.console import UserError
from deepconnotation.data import files, manifest
from deepconnotation.data.sources import folder as folders
from deepconnotation.data.sources import toy
from deepconnotation.emotions import FI
from deepconnotation.predict import list_inputs, read


@pytest.fixture
def linked(tmp_path):
    """awe/ is a link to another place, which holds a link back, broken ones and a pipe."""
    there, top = tmp_path / "there", tmp_path / "top"
    for name in ("there/awe/more/2.jpg", "there/awe/1.jpg", "top/fear/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (there / "awe/back").symlink_to("..")
    (there / "awe/more/self").symlink_to(".")
    (there / "awe/gone.jpg").symlink_to("nowhere.jpg")
    (there / "awe/itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(there / "awe/pipe.jpg")
    (top / "awe").symlink_to(there / "awe")
    (top / "fear/up").symlink_to(top)
    return top


INSIDE = ["awe/1.jpg", "awe/gone.jpg", "awe/itself.jpg", "awe/more/2.jpg", "fear/3.jpg"]


def test_links_are_followed_and_loops_are_not(linked):
    assert [path.relative_to(linked).as_posix() for path in files.below(linked)] == INSIDE


def test_pictures_of_a_linked_class_are_taken(linked):
    assert [item.source for item in folders.read(linked).items] == INSIDE
    assert [path.relative_to(linked).as_posix() for path in list_inputs([str(linked)])] == INSIDE
    assert faces.pictures(linked) == INSIDE


def test_folders_of_systems_are_not_looked_into(linked):
    """Their pictures are copies of the user's; `predict` tells such a folder once, as skipped."""
    for name in (".thumbnails/awe/1.jpg", ".thumbnails/2.jpg", "fear/@eaDir/3.jpg", "fear/._3.jpg"):
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).write_bytes(pictures.jpeg())
    told = [path.relative_to(linked).as_posix() for path in list_inputs([str(linked)])]
    clutter = {".thumbnails", "fear/@eaDir", "fear/._3.jpg"}
    assert sorted(told) == sorted([*INSIDE, *clutter])
    rows = {name: read(linked / name, (16, 16))[0] for name in clutter}
    assert {row["status"] for row in rows.values()} == {"skipped"}
    assert faces.pictures(linked) == INSIDE
    inside = linked / ".thumbnails"  # asked for by name
    assert list(list_inputs([str(inside)])) == [inside / "2.jpg", inside / "awe/1.jpg"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    """As root nothing is forbidden: a folder that is gone cannot be listed, either."""
    assert list(files.below(tmp_path / "gone")) == [tmp_path / "gone"]


def test_names_of_another_encoding(toy_run, tmp_path):
    """An é of Latin-1, as old archives have it, is no UTF-8: in a picture's name, and a run's."""
    there, out = tmp_path / "there", tmp_path / os.fsdecode(b"donn\xe9es")
    for emotion in FI.classes:
        (there / emotion).mkdir(parents=True)
        for i in range(10):
            name = os.fsdecode(b"caf\xe9%d.png" % i)
            Image.fromarray(toy.draw(emotion, 100 + i)).save(there / emotion / name)
    (there / "awe" / os.fsdecode(b"caf\xe8.jpg")).write_bytes(b"no picture")
    done = tool("fetch_and_resize.py", there, "--size", 16, "--out", out)
    assert done.returncode == 0, done.stderr
    table = manifest.read(out).set_index("source")
    assert (out / table.at[r"awe/caf\udce90.png", "file"]).is_file()
    assert r"awe/caf\udce8.jpg,not_a_picture" in (out / "rejected.csv").read_text("utf-8")

    run = shutil.copytree(toy_run.path, tmp_path / os.fsdecode(b"l\xe4ufe"))
    done = command("evaluate", run, "--data", out, "--split", "train")
    assert done.returncode == 0, done.stderr
    assert r"l\udce4ufe" in next(run.glob("report-*-train.html")).read_text("utf-8")
    with pytest.raises(UserError, match="rename the folder"):
        fast.LiteRT(run / "model.tflite", 8)
