"""Which files a folder holds."""

import os

import pytest

from deepconnotation.cloud import faces
from deepconnotation.data import files
from deepconnotation.data.sources import folder as folders
from deepconnotation.predict import list_inputs


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


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    """As root nothing is forbidden: a folder that is gone cannot be listed, either."""
    assert list(files.below(tmp_path / "gone")) == [tmp_path / "gone"]
