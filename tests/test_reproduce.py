"""Published rows: their settings, their data sets with the originals' mistakes, and the command."""

import hashlib
import json
import shlex
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_registry import pixels
from tools import command

from deepconnotation import emotions, reproduce, train
from deepconnotation.data import manifest, pipeline, prepare, published
from deepconnotation.data.sources import Item, Source
from deepconnotation.models import registry
from deepconnotation.rows import ROWS, Data
from deepconnotation.settings import Settings


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_can_be_given_to_train(row):
    if row.command and not row.command.startswith("embed"):
        for words in (row.command, f"{row.command} {row.mistakes}"):
            args = train.parse(shlex.split(words))
            settings = Settings.from_dict(vars(args))
            settings.check()
            registry.options(args.arch, settings)
    for data in (row.faithful, row.honest):
        if isinstance(data, Data):
            assert data.as_published == (data is row.faithful)
            assert not data.emotions or emotions.emotion_set(data.emotions)
    assert isinstance(row.honest, Data) or isinstance(row.faithful, str)


def test_rows_carry_the_published_figures():
    """Shared facts A to E, in their order."""
    figures = [".321", ".458", ".583", ".24", ".196", ".188", ".184", ".179", ".133", ".134", ".13",
               ".18", ".30-.35", ".48", ".47-.50", ".52", ".554", ".633", ".568", ".565", ".81",
               ".599"]  # fmt: skip
    assert [row.figure for row in ROWS] == figures
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.fixture(scope="module")
def unequal(toy_data, tmp_path_factory):
    """The toy set with one picture of fear in test and fewer of anger in training."""
    data = tmp_path_factory.mktemp("unequal") / "data"
    shutil.copytree(toy_data, data)
    table = manifest.read(data)
    gone = (table["label"] == "fear") & (table["split"] == "test")
    gone &= gone.cumsum() > 1
    few = (table["label"] == "anger") & (table["split"] == "train")
    gone |= few & (few.cumsum() > 2)
    manifest.write(data, manifest.to_csv(table[~gone]), manifest.read_info(data))
    return data


def test_filling_up_changes_copies_of_copies_in_every_split(unequal, tmp_path):
    published.fill_up(unequal, tmp_path / "full")
    table = manifest.read(tmp_path / "full")
    counts = table.groupby(["split", "label"]).size().unstack()
    assert (counts.nunique(axis=1) == 1).all() and list(counts["anger"]) == [2, 2, 6]
    made = table[table["derived_from"] != ""]
    assert Counter(made["label"]) == {"anger": 4, "fear": 1} and "test" in set(made["split"])
    # Two originals of anger, four copies: the later of each differs more from its original.
    images = dict(zip(table["id"], _images(tmp_path / "full", table), strict=True))
    for original, copies in made[made["label"] == "anger"].groupby("derived_from"):
        far = [abs(images[name] - images[original]).mean() for name in sorted(copies["id"])]
        assert len(far) == 2 and 0 < far[0] and far[0] != far[1]
    assert "copies of copies" in manifest.read_info(tmp_path / "full").split


def _images(dataset, table):
    return [np.asarray(Image.open(dataset / file), float) for file in table["file"]]


def test_leaked_swapped_and_cut_data_sets(unequal, tmp_path):
    table = manifest.read(unequal)
    published.leak(unequal, tmp_path / "leak")
    leaked = manifest.read(tmp_path / "leak")
    test = set(table["id"][table["split"] == "test"])
    assert test == set(leaked["derived_from"][leaked["split"] == "train"]) - {""}
    assert len(pipeline.load(tmp_path / "leak", "train").labels) == len(test) + sum(
        table["split"] == "train"
    )

    published.swap(unequal, tmp_path / "swap")
    swapped = manifest.read(tmp_path / "swap")
    dev = set(table["id"][table["split"] == "dev"])
    assert set(swapped["id"][swapped["split"] == "train"]) == dev
    pairs = [pipeline.load(tmp_path / "swap", split) for split in ("dev", "test")]
    assert np.array_equal(pairs[0].images, pairs[1].images)

    published.cut(unequal, tmp_path / "cut", 10)
    kept = manifest.read(tmp_path / "cut")
    assert Counter(kept["split"])["train"] == 10
    assert set(kept["id"][kept["split"] != "train"]) == test | dev


def test_as_published_keeps_signs_and_separates_people(tmp_path):
    """Forty pictures of one person, and one sign ten times under two labels."""
    (tmp_path / "source").mkdir()
    rng = np.random.default_rng(0)
    sign, items = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), []
    for i in range(50):
        picture = sign if i >= 40 else rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = tmp_path / "source" / f"{i}.png"
        Image.fromarray(picture).save(path)
        label = emotions.FI.classes[i % 2]
        items.append(Item(path.name, label, path, group="" if i >= 40 else "Anna"))
    source = Source("mine", emotions.FI.drop(*emotions.FI.classes[2:]), items, [], "mine")
    table = prepare.prepare(source, tmp_path / "as", 16, fractions="60/40", workers=1,
                            as_published=True)  # fmt: skip
    assert len(table) == 50 and dict(Counter(table["split"])) == {"train": 30, "test": 20}
    digests = table["source"].map(
        lambda name: hashlib.sha256((tmp_path / "source" / name).read_bytes()).hexdigest()
    )
    twice = table[digests.duplicated(keep=False)]
    assert len(twice) == 10 and twice["split"].nunique() == 2
    assert "by picture" in manifest.read_info(tmp_path / "as").split


@pytest.mark.parametrize("arch", ["vgg", "resnet50_imagenet"])
def test_faithful_input_divides_once_more(arch):
    side = registry.SMALLEST[arch]
    usual, faithful = (
        registry.build(arch, (side, side, 3), 4, faithful_input=flag) for flag in (False, True)
    )
    faithful.set_weights(usual.get_weights())
    images = pixels(usual).astype(np.float32)
    assert np.allclose(faithful(images), usual(images / 255), atol=1e-5)
    assert not np.allclose(faithful(images), usual(images), atol=1e-3)


def test_a_row_is_rehearsed_once(tmp_path):
    done = command("reproduce", "keras-cnn", "--rehearse", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    top = tmp_path / "snapshots/rehearsal"
    text = (top / "table.md").read_text()
    assert "No figure here is a result" in text
    for form in ("published", "honest"):
        f = json.loads((top / f"keras-cnn-{form}/metrics.json").read_text())["accuracy"]
        config = json.loads((top / f"keras-cnn-{form}/run.json").read_text())
        assert config["command"].endswith(f"--run snapshots/rehearsal/keras-cnn-{form}")
        assert f"{f['value']:.3f} ({f['low']:.3f} to {f['high']:.3f})" in text
    table = pd.read_csv(tmp_path / "data/rehearsal/facial_expressions-50-60-40-as-published-fill_up"
                        "/manifest.csv")  # fmt: skip
    assert table.groupby("split")["label"].value_counts().groupby("split").nunique().max() == 1
    assert "Rehearsed" in (top / "index.html").read_text()
    before = (top / "keras-cnn-honest/metrics.json").read_bytes()
    done = command("reproduce", "keras-cnn", "--rehearse", cwd=tmp_path)
    assert done.stdout.count("done before") == 2
    assert (top / "keras-cnn-honest/metrics.json").read_bytes() == before


def test_a_run_that_diverged_has_no_figure(toy_run, tmp_path):
    folder = tmp_path / "fractal-published"
    folder.mkdir()
    config = {**toy_run.config, "state": "diverged", "diverged": "the loss is nan at epoch 1"}
    (folder / "run.json").write_text(json.dumps(config))
    assert reproduce.result(folder) == {"diverged": "the loss is nan at epoch 1"}


def test_what_is_missing_is_said(tmp_path):
    done = command("reproduce", "--sources", tmp_path, cwd=tmp_path)
    assert done.returncode == 0
    assert "git clone https://github.com/muxspace/facial_expressions" in done.stdout
    done = command("reproduce", "keras-cnn", "show-and-tell", "--sources", tmp_path, cwd=tmp_path)
    assert done.returncode == 0 and f"{tmp_path}/facial_expressions is not there" in done.stdout
    (tmp_path / "fi/images").mkdir(parents=True)
    done = command("reproduce", "show-and-tell", "--sources", tmp_path, cwd=tmp_path)
    assert "show-and-tell.pb is not there" in done.stdout
    done = command("reproduce", "keras", cwd=tmp_path)
    assert done.returncode == 2 and "there are fi-imagenet-cnn" in done.stderr
