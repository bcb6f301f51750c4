"""Splits: shares, groups, near-duplicates, checked without the code that made them."""

import unicodedata

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deepconnotation.console import UserError, text_table
from deepconnotation.data import duplicates, split


def test_fractions():
    assert split.parse_fractions("80/10/10") == {"train": 0.8, "dev": 0.1, "test": 0.1}
    assert split.parse_fractions("60/40") == {"train": 0.6, "test": 0.4}
    assert split.parse_fractions("99/0.5/0.5") == {"train": 0.99, "dev": 0.005, "test": 0.005}
    assert split.without(split.parse_fractions("60/20/20"), ["test"]) == {
        "train": pytest.approx(0.75), "dev": pytest.approx(0.25)}  # fmt: skip


def test_fractions_that_are_none():
    for wrong in ("80", "80/30", "a/b", "100/0", "50/25/15/10", ""):
        with pytest.raises(UserError, match="--fractions"):
            split.parse_fractions(wrong)


def test_who_has_most_pictures_is_placed_first():
    """Eight pictures of one person and eight of others: last, the eight would fit nowhere."""
    halves = split.parse_fractions("50/50")
    for seed in range(5):
        places = split.assign(["a"] * 16, [0] * 8 + [*range(1, 9)], halves, seed)
        assert len(set(places[:8])) == 1 and set(places[8:]) == {"train", "test"} - set(places[:8])


@pytest.mark.parametrize("text", ["80/10/10", "60/40"])
def test_single_pictures_are_stratified(text):
    labels = ["a"] * 1000 + ["b"] * 200 + ["c"] * 30
    fractions = split.parse_fractions(text)
    where = split.assign(labels, range(len(labels)), fractions, seed=0)
    counts = pd.crosstab(where, labels)
    for name, fraction in fractions.items():
        for label, total in (("a", 1000), ("b", 200), ("c", 30)):
            assert abs(counts.at[name, label] - fraction * total) <= 1


def test_groups_stay_whole_and_shares_are_near():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 4000)
    labels = rng.choice(["a", "b", "c"], 4000, p=[0.6, 0.3, 0.1])
    fractions = split.parse_fractions("80/10/10")
    where = split.assign(labels, groups, fractions, seed=0)
    assert pd.DataFrame({"g": groups, "s": where}).groupby("g")["s"].nunique().max() == 1
    shares = pd.crosstab(where, labels, normalize="columns")
    for name, fraction in fractions.items():
        assert (shares.loc[name] - fraction).abs().max() < 0.02


def test_seed_decides():
    labels = ["a", "b"] * 50
    fractions = split.parse_fractions("80/10/10")
    first = split.assign(labels, range(100), fractions, 0)
    assert (first == split.assign(labels, range(100), fractions, 0)).all()
    assert (first != split.assign(labels, range(100), fractions, 1)).any()


def test_missing_class_is_refused():
    table = pd.DataFrame({"split": ["train", "train", "test"], "label": ["a", "b", "a"]})
    counts = split.class_counts(table, ["a", "b"])
    assert counts.loc["train"].tolist() == [1, 1, 2]
    with pytest.raises(UserError, match="class 'b' does not occur in split 'test'"):
        split.check_classes(counts)


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC))


def test_hash_is_that_of_imagehash():
    """Both transform 32x32 greys, so the bits must be the same."""
    thumbnails = [duplicates.thumbnail(Image.fromarray(scene(seed))) for seed in range(20)]
    assert duplicates.perceptual_hashes(thumbnails) == [str(imagehash.phash(t)) for t in thumbnails]


def test_thumbnail_is_the_mean_of_the_pixels():
    pixels = scene(0)  # 96x96: exactly 3x3 pixels each
    luma = np.asarray(Image.fromarray(pixels).convert("L")).astype(float)
    means = luma.reshape(32, 3, 32, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(duplicates.thumbnail(Image.fromarray(pixels))) - means).max() < 1


def test_near_pairs_finds_copies_and_nothing_else():
    originals = [scene(seed) for seed in range(30)]
    brighter = np.clip(originals[3] * 1.05, 0, 255).astype(np.uint8)
    smaller = np.asarray(Image.fromarray(originals[7]).resize((70, 70)))
    found = [Image.fromarray(p) for p in [*originals, brighter, smaller]]
    thumbnails = [duplicates.thumbnail(image) for image in found]
    digits = duplicates.perceptual_hashes(thumbnails)
    hashes = np.array([int(d, 16) for d in digits], np.uint64)
    groups = [""] * len(thumbnails)

    def thumbnails_of(rows):
        return [thumbnails[row] for row in rows]

    pairs = duplicates.near_pairs(hashes, groups, thumbnails_of)
    assert pairs.tolist() == [[3, 30], [7, 31]]
    groups[3] = groups[30] = "one person"
    assert duplicates.near_pairs(hashes, groups, thumbnails_of).tolist() == [[7, 31]]


def test_a_pair_differs_by_eight_bits_and_eight_grey_levels_at_most():
    """Hashes and thumbnails chosen by hand; further apart than a block of pictures, too."""
    hashes = np.random.default_rng(0).integers(0, 2**64, 200, np.uint64)  # about 32 bits apart
    greys = np.full(200, 100)
    for row, bits, grey in ((3, 8, 108), (60, 9, 100), (90, 0, 109), (199, 1, 92)):
        hashes[row] = hashes[2] ^ np.uint64(2**bits - 1)
        greys[row] = grey

    def thumbnails_of(rows):
        return [Image.new("L", (32, 32), int(greys[row])) for row in rows]

    pairs = duplicates.near_pairs(hashes, [""] * 200, thumbnails_of)
    # 3 and 199 differ by 7 bits, but by 16 grey levels; 60 is one bit from 3 and as light as 2
    assert pairs.tolist() == [[2, 3], [2, 199], [3, 60], [3, 90], [60, 199]]


def test_join_groups_by_hand():
    groups = ["ann", "ann", "bob", "", "", "cy"]
    # picture 1 (ann) resembles 2 (bob); 3 resembles 4
    clusters = duplicates.join_groups(groups, np.array([[1, 2], [3, 4]]))
    assert clusters[0] == clusters[1] == clusters[2]
    assert clusters[3] == clusters[4]
    assert len(set(clusters)) == 3
    assert len(set(duplicates.join_groups(["", "", ""], np.empty((0, 2), np.int64)))) == 3


@pytest.fixture(scope="module")
def faces(real_data, tmp_path_factory):
    """The real faces, prepared small."""
    from deepconnotation.data import prepare
    from deepconnotation.data.sources import facial_expressions

    out = tmp_path_factory.mktemp("faces") / "data"
    source = facial_expressions.read(real_data / "facial_expressions", drops=["contempt"])
    return out, prepare.prepare(source, out, 32, grey=True, fractions="80/20", seed=0)


def test_no_person_digest_or_near_duplicate_crosses(faces):
    """From the file names and ImageHash alone."""
    out, table = faces
    named = table[~table["id"].str.startswith("image_")]
    people = named["id"].str.rsplit("_", n=1).str[0]
    assert people.nunique() > 5000
    assert named.groupby(people)["split"].nunique().max() == 1
    assert table.groupby("sha256")["split"].nunique().max() == 1

    sides = {}
    for name in ("train", "test"):
        files = table.loc[table["split"] == name, "file"]
        pixels = [np.asarray(Image.open(out / f).convert("L"), np.int16) for f in files]
        hashes = [int(str(imagehash.phash(Image.fromarray(p.astype(np.uint8)))), 16)
                  for p in pixels]  # fmt: skip
        sides[name] = np.stack(pixels), np.array(hashes, np.uint64)
    for pixels, bits in zip(*sides["test"], strict=True):
        near = np.flatnonzero(np.bitwise_count(sides["train"][1] ^ bits) <= 4)
        for other in sides["train"][0][near]:
            assert np.abs(other - pixels).mean() > 4


def test_every_class_is_near_its_share(faces):
    _, table = faces
    share = (table["split"] == "test").groupby(table["label"]).mean()
    assert share.between(0.1, 0.3).all(), share
    assert abs((table["split"] == "test").mean() - 0.2) < 0.01


def test_in_a_table_chinese_names_stand_in_line():
    lines = text_table(pd.DataFrame({"train": [1, 20]}, index=["愤怒", "awe"])).splitlines()
    places = [sum(2 if unicodedata.east_asian_width(letter) == "W" else 1 for letter in line)
              for line in lines]  # fmt: skip
    assert len(set(places)) == 1 and len(set(map(len, lines))) == 2
