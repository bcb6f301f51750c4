"""FER2013's three parts, on the real files and on drawn ones."""

from collections import Counter

import pytest
from PIL import Image

from deepconnotation.console import UserError
from deepconnotation.data import manifest, prepare
from deepconnotation.data.sources import Options, fer2013, read, toy

FOLDERS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # ids 0 to 6


def test_counts_of_the_competition(real_data):
    source = read("fer2013", [real_data / "fer2013"], Options())
    assert Counter(i.split for i in source.items) == {"": 28_709, "dev": 3_589, "test": 3_589}
    # Goodfellow et al. 2013: the training part's classes in the order of their ids
    labels = Counter(i.label for i in source.items if i.split == "")
    ids = [labels[name] for name in source.emotions.classes]
    assert ids == [3995, 436, 4097, 7215, 4830, 3171, 4965]


@pytest.fixture()
def drawn(tmp_path):
    """Six pictures a class for training, two each for dev and test, under FER2013's names."""
    emotions = ("anger", "disgust", "fear", "amusement", "sadness", "awe", "contentment")
    for part, numbers in (("Training", range(6)), ("PublicTest", (6, 7)), ("PrivateTest", (8, 9))):
        for folder, emotion in zip(FOLDERS, emotions, strict=True):
            (tmp_path / part / folder).mkdir(parents=True)
            for i in numbers:
                picture = Image.fromarray(toy.draw(emotion, i, 48))
                picture.save(tmp_path / part / folder / f"{part}_{i}.png")
    return tmp_path


def test_official_parts_become_splits_and_training_loses_what_is_in_them(drawn, tmp_path):
    held_out = drawn / "PrivateTest/happy/PrivateTest_8.png"
    (drawn / "Training/happy/copy.png").write_bytes(held_out.read_bytes())
    Image.open(held_out).save(drawn / "Training/happy/nearly.jpg", quality=60)
    out = tmp_path / "out"
    table = prepare.prepare(fer2013.read(drawn), out, 16, workers=1)
    counts = table["split"].value_counts()
    assert counts["dev"] == counts["test"] == 14 and counts["train"] <= 42
    assert not {"Training/happy/copy.png", "Training/happy/nearly.jpg"} & set(table["source"])
    for split, part in (("dev", "PublicTest"), ("test", "PrivateTest"), ("train", "Training")):
        assert set(table["source"][table["split"] == split].str.split("/").str[0]) == {part}
    rejected = (out / "rejected.csv").read_text()
    assert "duplicate" in rejected and "near_official" in rejected
    assert manifest.read_info(out).split.startswith("official dev and test splits")


def test_a_missing_part_is_named(drawn):
    (drawn / "PublicTest").rename(drawn / "Public")
    with pytest.raises(UserError, match="PublicTest: no such folder; expected PrivateTest"):
        fer2013.read(drawn)
