"""Readers against what is known about the data sets."""

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from deepconnotation.console import UserError
from deepconnotation.data import sources
from deepconnotation.data.sources import facial_expressions, folder, image_ids, toy
from deepconnotation.emotions import EMOSET, FI


def test_facial_expressions_counts(real_data):
    """The figures of the repository's own legend: 13,690 rows, 13,682 names, 36 unlabelled."""
    source = facial_expressions.read(real_data / "facial_expressions")
    reasons = Counter(r.reason for r in source.rejections)
    assert reasons == {"no_label": 36, "repeated_row": 7, "conflicting_labels": 2}
    assert len(source.items) + 7 + 2 == 13_690
    labels = Counter(i.label for i in source.items)
    assert labels["contempt"] == 9 and labels["fear"] == 21
    dropped = facial_expressions.read(real_data / "facial_expressions", drops=["Contempt"])
    assert "contempt" not in dropped.emotions.classes
    assert Counter(r.reason for r in dropped.rejections)["dropped_class"] == 9


def test_persons_of_facial_expressions(real_data):
    source = facial_expressions.read(real_data / "facial_expressions")
    named = {i.group for i in source.items if not i.group.startswith("still")}
    # 5,624 people are named; some of them only on pictures that nobody labelled.
    assert 5600 < len(named) <= 5624
    stills = Counter(i.group for i in source.items if i.group.startswith("still"))
    assert sum(n > 10 for n in stills.values()) == 8  # the eight actors
    assert all(i.group for i in source.items)


def test_runs_of_numbers_are_persons():
    names = ["image_00005.jpg", "image_00006.jpg", "image_00009.jpg", "A_B_0001.jpg", "odd.jpg"]
    assert facial_expressions.persons(names) == {
        "image_00005.jpg": "still_5", "image_00006.jpg": "still_5", "image_00009.jpg": "still_9",
        "A_B_0001.jpg": "A_B", "odd.jpg": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("legend", "message"),
    [
        ("user,image,emotion\n", "row 1: expected the header"),
        ("user.id,image,emotion\nu,a.jpg,joy\nu,b.jpg,angr\n", "row 3: unknown label 'angr'"),
        ("user.id,image,emotion\nu,a.jpg\n", "row 2: expected 3 columns, received 2"),
    ],
)
def test_malformed_legends_name_the_row(tmp_path, legend, message):
    (tmp_path / "images").mkdir()
    (tmp_path / "legend.csv").write_text(legend)
    with pytest.raises(UserError, match=message):
        facial_expressions.read(tmp_path)


def make_tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folder_takes_the_set_that_knows_all_names(tmp_path):
    make_tree(tmp_path, "Awe/b.jpg", "Awe/deep/a.jpg", "fear/c.jpg", "fear/.DS_Store", "loose.jpg",
              "__MACOSX/Awe/b.jpg", ".ipynb_checkpoints/b.jpg",
              "fear/@eaDir/c.jpg/c.jpg")  # fmt: skip
    source = folder.read(tmp_path)
    assert source.emotions.classes == ("awe", "fear")  # FI's order, classes without a folder gone
    found = [(i.source, i.label) for i in source.items]
    assert found == [("Awe/b.jpg", "awe"), ("Awe/deep/a.jpg", "awe"), ("fear/c.jpg", "fear")]
    reasons = {r.source: r.reason for r in source.rejections}
    assert reasons == {
        "loose.jpg": "no_label", **dict.fromkeys(
            ("fear/.DS_Store", "__MACOSX/Awe/b.jpg", ".ipynb_checkpoints/b.jpg",
             "fear/@eaDir/c.jpg/c.jpg"), "clutter"),
    }  # fmt: skip


def test_folders_of_splits(tmp_path):
    """As Keras and torchvision lay them out; a class may be missing in one."""
    make_tree(tmp_path, "train/Awe/a.jpg", "train/fear/b.jpg", "Val/fear/c.jpg", "test/awe/d.jpg",
              "test/loose.jpg", "readme.txt")  # fmt: skip
    source = folder.read(tmp_path)
    assert source.emotions.classes == ("awe", "fear")
    assert {(i.source, i.label, i.split) for i in source.items} == {
        ("train/Awe/a.jpg", "awe", ""), ("train/fear/b.jpg", "fear", ""),
        ("Val/fear/c.jpg", "fear", "dev"), ("test/awe/d.jpg", "awe", "test"),
    }  # fmt: skip
    reasons = {r.source: r.reason for r in source.rejections}
    assert reasons == {"test/loose.jpg": "no_label", "readme.txt": "no_label"}
    make_tree(tmp_path, "train/pride/a.jpg")
    with pytest.raises(UserError, match="folder .*/train/pride: unknown label 'pride'"):
        folder.read(tmp_path)


def test_folders_of_ones_own_classes(tmp_path):
    make_tree(tmp_path, "Positive/a.jpg", "so so/b.jpg", "negative/c.jpg")
    with pytest.raises(UserError, match='of your own .* --emotions "Positive,negative,so so"$'):
        sources.read("folder", [tmp_path], sources.Options())
    source = sources.read("folder", [tmp_path], sources.Options("negative,so so,positive"))
    assert source.emotions.classes == ("negative", "so_so", "positive")
    assert sorted(i.label for i in source.items) == ["negative", "positive", "so_so"]
    with pytest.raises(UserError, match="folder .*/so so: unknown label 'so so'"):
        sources.read("folder", [tmp_path], sources.Options("negative,positive"))
    with pytest.raises(UserError, match="affectnet has label sets of its own"):
        sources.read("affectnet", [tmp_path], sources.Options("negative,positive"))
    make_tree(tmp_path, *(f"parts/{part}/{name}/{part}.jpg" for part in ("train", "test")
                          for name in ("good", "bad")))  # fmt: skip
    with pytest.raises(UserError, match='--emotions "bad,good"$'):  # each once
        sources.read("folder", [tmp_path / "parts"], sources.Options())


def test_folder_order_is_the_sets_and_not_the_alphabets(tmp_path):
    make_tree(tmp_path, *(f"{c}/1.jpg" for c in EMOSET.classes))
    assert folder.read(tmp_path, EMOSET).emotions.classes == EMOSET.classes


@pytest.mark.parametrize("names", [(), ("pride/a.jpg", "awe/b.jpg")])
def test_folder_refuses_what_it_cannot_label(tmp_path, names):
    make_tree(tmp_path, *names)
    with pytest.raises(UserError, match="expected one subfolder|'pride'"):
        folder.read(tmp_path)


def test_ids_are_plain_unique_and_stable():
    names = ["a/x.jpg", "b/X.png", "a/y.jpg", "a/é 1.jpg", "a/-rf.jpg", "a/=1+1.jpg"]
    ids = image_ids(names)
    assert ids == image_ids(names)
    assert len({i.lower() for i in ids}) == len(names)
    assert all(i.replace("-", "").replace("_", "").isalnum() and i[0] != "-" for i in ids)
    assert ids[2] == "y"


def test_drawn_pictures():
    first, again = toy.draw("awe", 3, 32), toy.draw("awe", 3, 32)
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8
    assert (first == again).all()
    assert (first != toy.draw("awe", 4, 32)).any()
    assert (first != toy.draw("awe", 3, 32, seed=1)).any()
    with pytest.raises(UserError, match="pride"):
        toy.draw("pride", 0)


def test_drawn_classes_can_be_told_apart_but_not_perfectly():
    drawn = list(toy.pictures(30, 32))
    labels = [emotion for _, emotion, _ in drawn]
    small = np.stack([p.reshape(8, 4, 8, 4, 3).mean((1, 3)).ravel() / 255 for _, _, p in drawn])
    scores = cross_val_score(LogisticRegression(max_iter=500), small, labels, cv=3)
    assert 0.3 < scores.mean() < 0.95  # chance is .125
    bright = {c: small[[e == c for e in labels]].mean() for c in FI.classes}
    pleasant = [bright[c] for c in FI.classes if FI.polarity(c) > 0]
    assert min(pleasant) > max(v for c, v in bright.items() if FI.polarity(c) < 0) - 0.05
