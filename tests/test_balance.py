"""Weights and copies for classes of unequal size."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tools import tool

from deepconnotation.console import UserError
from deepconnotation.data import balance, manifest, pipeline, prepare, split
from deepconnotation.data.decode import decode
from deepconnotation.data.sources import Source, toy
from deepconnotation.emotions import FI


def test_class_weights_by_hand():
    # counts 10, 30, 60: 1/count gives .1, .0333, .01667, whose sum over pictures is 3
    inverse = balance.class_weights("inverse", [10, 30, 60])
    assert np.allclose(inverse, [100 / 30, 100 / 90, 100 / 180])
    roots = np.array([1 / math.sqrt(n) for n in (10, 30, 60)])
    scale = 100 / (roots * [10, 30, 60]).sum()
    assert np.allclose(balance.class_weights("sqrt", [10, 30, 60]), roots * scale)
    assert np.allclose(balance.class_weights("none", [10, 30, 60]), 1)
    assert np.allclose(balance.class_weights(".1,.5,.99", [1, 2, 3]), [0.1, 0.5, 0.99])
    for wrong in (
        "1,2",
        "a,b,c",
        "1,2,-3",
        "1,2,nan",
        "balanced",
        "sqrt:2",
        "effective:1",
        "effective:x",
    ):
        with pytest.raises(UserError, match="--class-weights"):
            balance.class_weights(wrong, [1, 2, 3])
    # Cui et al. 2019: with beta .9 the effective numbers of 1, 2, 3 are 1, 1.9, 2.71
    effective = np.array([1, 1 / 1.9, 1 / 2.71])
    scale = 6 / (effective * [1, 2, 3]).sum()
    assert np.allclose(balance.class_weights("effective:.9", [1, 2, 3]), effective * scale)
    near_inverse = balance.class_weights("effective:.9999999", [10, 30, 60])
    assert np.allclose(near_inverse, inverse, rtol=1e-4)
    assert balance.class_weights("effective", [10, 0]).shape == (2,)  # an absent class


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """20, 14, 8, 8, ... drawn pictures a class."""
    folder = tmp_path_factory.mktemp("uneven")
    items = [i for i in toy.read(folder / "drawn", per_class=20).items
             if int(i.path.stem[-2:]) < {"amusement": 20, "anger": 14}.get(i.label, 8)]  # fmt: skip
    source = Source("toy", FI, items, [], "drawn", drawn=True)
    prepare.prepare(source, folder / "data", 16, fractions="50/25/25", workers=1)
    return folder / "data"


def train_counts(dataset):
    table = manifest.read(dataset)
    return Counter(table.loc[table["split"] == "train", "label"])


def test_up_and_down(uneven, tmp_path):
    before, out = train_counts(uneven), tmp_path / "even"
    assert (before["amusement"], before["anger"], before["fear"]) == (10, 7, 4)
    done = tool("balance.py", uneven, "--up-to", 9, "--down-to", 9, "--out", out)
    assert done.returncode == 0, done.stderr
    assert train_counts(out) == dict.fromkeys(FI.classes, 9)
    old, new = manifest.read(uneven), manifest.read(out)
    for name in ("dev", "test"):  # never touched
        assert set(new.query(f"split == '{name}'")["id"]) == set(
            old.query(f"split == '{name}'")["id"]
        )
    copies = new[new["derived_from"] != ""]
    assert set(copies["split"]) == {"train"}
    originals = set(old.query("split == 'train'")["id"])
    assert set(copies["derived_from"]) <= originals  # from originals, not from copies
    times = Counter(copies.query("label == 'fear'")["derived_from"])
    assert sum(times.values()) == 5 and max(times.values()) - min(times.values()) <= 1
    home = new.set_index("id")
    for row in copies.itertuples():
        assert row.group == home.at[row.derived_from, "group"] != ""
        assert (out / row.file).read_bytes() == (
            out / home.at[row.derived_from, "file"]
        ).read_bytes()
    assert "downsampled" in (out / "rejected.csv").read_text()
    assert len(pipeline.load(out, "train").labels) == 72


def test_synthesised_copies_differ_within_bounds(uneven, tmp_path):
    done = tool("balance.py", uneven, "--up-to", "largest", "--synthesise", "--out", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    table = manifest.read(tmp_path / "s").set_index("id")
    copies = table[table["derived_from"] != ""]
    assert set(train_counts(tmp_path / "s").values()) == {10}
    assert copies["sha256"].nunique() == len(copies)
    for row in copies.itertuples():
        old = decode((tmp_path / "s" / table.at[row.derived_from, "file"]).read_bytes()).pixels
        new = decode((tmp_path / "s" / row.file).read_bytes()).pixels
        difference = np.abs(old.astype(int) - new).mean()
        assert 0 < difference < 0.2 * 255
    again = tool(
        "balance.py", uneven, "--up-to", "largest", "--synthesise", "--out", tmp_path / "t"
    )
    assert again.returncode == 0
    same = (tmp_path / "s/manifest.csv").read_bytes() == (tmp_path / "t/manifest.csv").read_bytes()
    assert same  # by seed
    other = tool("balance.py", uneven, "--up-to", "largest", "--synthesise", "--seed", 1, "--out",
                 tmp_path / "u")  # fmt: skip
    assert other.returncode == 0
    assert (tmp_path / "s/manifest.csv").read_bytes() != (tmp_path / "u/manifest.csv").read_bytes()


def test_alteration_by_pillows_definition():
    """Contrast is a blend with the mean grey: 100 and 140 lie 20 from it, then 24."""

    class Fixed:
        def __init__(self, *values):
            self.values = list(values)

        def uniform(self, low, high):
            assert (low, high) == (0.8, 1.2)
            return self.values.pop(0)

    pixels = np.full((16, 16, 3), 100, np.uint8)
    pixels[:, 8:] = 140
    result = np.asarray(balance.altered(Image.fromarray(pixels), Fixed(1.2, 1.0, 1.0)))
    assert (result[:, :7] == 96).all() and (result[:, 9:] == 144).all()  # 120 -/+ 20 * 1.2


def test_copies_cannot_leave_the_training_split(uneven, tmp_path):
    tool("balance.py", uneven, "--up-to", 9, "--out", tmp_path / "even")
    done = tool("split.py", tmp_path / "even", "--seed", 5)
    assert done.returncode == 2 and "split the data set that it came from" in done.stderr
    done = tool("balance.py", tmp_path / "even", "--up-to", 12, "--out", tmp_path / "more")
    assert done.returncode == 2 and "holds copies already" in done.stderr
    with pytest.raises(UserError, match="holds copies"):
        table = manifest.read(tmp_path / "even")
        prepare.resplit(tmp_path / "even", table, split.parse_fractions("80/20"), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--up-to", "9"], "--out goes with"),
        (["--out", "x"], "--out goes with"),
        (["--up-to", "many", "--out", "x"], "--up-to many: expected a number"),
        (["--down-to", "0", "--out", "x"], "--down-to 0"),
        (["--down-to", "5", "--synthesise", "--out", "x"], "--synthesise goes with"),
    ],
)
def test_bad_use_of_balance(uneven, arguments, message):
    done = tool("balance.py", uneven, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_weights_are_printed(uneven):
    done = tool("balance.py", uneven)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["train", "inverse", "sqrt", "effective"]
    counts = balance.training_counts(uneven)
    assert float(lines[1][2]) == pytest.approx(counts.sum() / 8 / counts["amusement"], abs=1e-3)
