"""AffectNet in both forms, made from drawn pictures."""

import csv
from collections import Counter

import numpy as np
import pytest
from pictures import jpeg, quarters
from PIL import Image

from deepconnotation import emotions
from deepconnotation.console import UserError
from deepconnotation.data import manifest, prepare
from deepconnotation.data.decode import Rejected, decode
from deepconnotation.data.sources import Options, affectnet, read, toy
from deepconnotation.emotions import AFFECTNET, AFFECTNET_5, AFFECTNET_6, AFFECTNET_7, AFFECTNET_11

HEADER = affectnet.COLUMNS


def draw(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(toy.draw("awe", number, 48)).save(path)


def row(name, expression, valence="0.5", arousal="-0.25", box=(8, 8, 32, 32)):
    return [name, *map(str, box), "1.0;2.0", str(expression), valence, arousal]


@pytest.fixture()
def lists(tmp_path):
    """Ids 0 to 10 for training, 0 to 7 for validation; Windows paths; validation has no header."""
    training, validation = [list(HEADER)], []
    for i in range(44):
        draw(tmp_path / "Manually_Annotated_Images" / str(i % 3) / f"{i}.jpg", i)
        training.append(row(f"{i % 3}\\{i}.jpg", i % 11))
    training[1][7:] = ["-2", "-2"]
    for i in range(100, 116):
        draw(tmp_path / "Manually_Annotated_Images/v" / f"{i}.jpg", i)
        validation.append(row(f"v/{i}.jpg", i % 8))
    for name, rows in (("training.csv", training), ("validation.csv", validation)):
        with open(tmp_path / name, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    return tmp_path


def test_ids_are_the_official_ones():
    names = "Neutral Happy Sad Surprise Fear Disgust Anger Contempt None Uncertain No-Face".split()
    assert [AFFECTNET_11.id_of(name) for name in names] == list(range(11))
    assert [len(s.classes) for s in (AFFECTNET_7, AFFECTNET_6, AFFECTNET_5)] == [7, 6, 5]
    assert AFFECTNET_5.classes == ("neutral", "happiness", "sadness", "surprise", "anger")


@pytest.mark.parametrize(
    ("emotion_set", "taken"),
    [
        ("affectnet11", 44), ("affectnet8", 32), ("affectnet7", 28), ("affectnet6", 24),
        ("affectnet5", 20),
    ],
)  # fmt: skip
def test_variants(lists, emotion_set, taken):
    source = read("affectnet", [lists], Options(emotions=emotion_set))
    training = [i for i in source.items if i.split == ""]
    assert len(training) == taken
    classes = emotions.emotion_set(emotion_set).classes
    official = AFFECTNET_11.classes
    for item in training:
        assert item.label == official[int(item.path.stem) % 11] and item.label in classes
        assert item.path.is_file() and "\\" not in item.source
    assert Counter(r.reason for r in source.rejections)["dropped_class"] == 60 - len(source.items)


def test_valence_arousal_and_official_split(lists, tmp_path):
    source = affectnet.read(lists)
    first = next(i for i in source.items if i.path.stem == "0")
    assert first.extra == {"valence": "", "arousal": ""}
    table = prepare.prepare(source, tmp_path / "out", 16, fractions="60/20/20", workers=1)
    assert set(table.query("split == 'test'")["source"].str[0]) == {"v"}
    assert set(table.query("split != 'test'")["split"]) == {"train", "dev"}
    assert table.query("id == '1'").iloc[0][["valence", "arousal"]].tolist() == ["0.5", "-0.25"]
    assert "official test split" in manifest.read_info(tmp_path / "out").split


def test_training_pictures_nearly_equal_to_official_test_pictures_are_left_out(lists, tmp_path):
    image = Image.open(lists / "Manually_Annotated_Images/v/100.jpg")
    image.save(lists / "Manually_Annotated_Images/0/0.jpg", quality=60)
    table = prepare.prepare(
        affectnet.read(lists), tmp_path / "out", 16, workers=1, allow_missing=True
    )
    assert "0/0.jpg" not in set(table["source"]) and "v/100.jpg" in set(table["source"])
    assert "near_official" in (tmp_path / "out/rejected.csv").read_text()


def test_face_boxes_with_margin(lists):
    item = affectnet.read(lists).items[0]
    assert item.box == (8, 8, 40, 40)
    assert affectnet.read(lists, margin=0.25).items[0].box == (0, 0, 48, 48)
    data = jpeg(quarters(64, 32))
    corner = decode(data, (8, 8), box=(32, 16, 500, 500)).pixels  # beyond the border: cut off
    assert np.abs(corner.astype(int) - (230, 200, 40)).max() <= 6
    turned = decode(data, None, box=(0, 0, 16, 32))
    assert turned.pixels.shape == (32, 16, 3)
    with pytest.raises(Rejected, match="bad_box"):
        decode(data, (8, 8), box=(60, 0, 200, 32))


def test_arrays_of_the_later_form(tmp_path):
    for i in range(16):
        name = "val_set" if i >= 12 else "train_set"
        draw(tmp_path / name / "images" / f"{i}.jpg", i)
        notes = tmp_path / name / "annotations"
        notes.mkdir(exist_ok=True)
        np.save(notes / f"{i}_exp.npy", np.array(str(i % 8)))
        np.save(notes / f"{i}_val.npy", np.array("-2" if i == 3 else "-0.176846"))
        np.save(notes / f"{i}_aro.npy", np.array("0.0776398"))
    (tmp_path / "train_set/annotations/5_exp.npy").unlink()
    source = affectnet.read(tmp_path)
    by_name = {i.path.stem: i for i in source.items}
    assert len(by_name) == 15 and by_name["9"].label == AFFECTNET.classes[1]
    assert by_name["9"].extra == {"valence": "-0.176846", "arousal": "0.07764"}
    assert by_name["3"].extra["valence"] == "" and by_name["13"].split == "test"
    assert [r.reason for r in source.rejections] == ["no_label"]
    np.save(tmp_path / "train_set/annotations/7_exp.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match="7_exp.npy: not one number"):
        affectnet.read(tmp_path)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (row("../../etc/passwd", 1), "leads out of the folder"),
        (row("a.jpg", 11), "row 3: expression '11' is none of the ids 0 to 10"),
        (row("a.jpg", 1, valence="7"), "row 3: '7' is not within -1 to 1"),
        (row("a.jpg", 1, valence="x"), "row 3: 'x' is no number"),
        (row("a.jpg", 1, box=(0, 0, 0, 9)), "row 3: a face of 0 by 9 pixels"),
        (row("a.jpg", 1)[:-1], "row 3: expected 9 columns, received 8"),
    ],
)
def test_bad_rows_of_affectnet(tmp_path, cells, message):
    with open(tmp_path / "training.csv", "w", newline="") as file:
        csv.writer(file).writerows([HEADER, row("good.jpg", 1), cells])
    with pytest.raises(UserError, match=message):
        affectnet.read(tmp_path)
