"""Another data set's pictures, labelled by runs."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from tools import command, tool

from deepconnotation import distribution, pseudo, run, seen, train
from deepconnotation.backend import tf
from deepconnotation.console import UserError
from deepconnotation.data import balance, manifest, pipeline, prepare
from deepconnotation.data.sources import Source, toy
from deepconnotation.emotions import FI
from deepconnotation.evaluate import predict_split
from deepconnotation.settings import Settings


def test_second_opinion_by_hand():
    """Two pictures, labels 0 and 1: the cells of label and class are 1.8 1.2 and 1.4 1.6."""
    heard = pseudo.second_opinion(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 1]))
    first = np.array([0.8 * 1.8 / 3.2, 0.2 * 1.2 / 2.8])
    second = np.array([0.4 * 1.4 / 3.2, 0.6 * 1.6 / 2.8])
    assert np.allclose(heard, [first / first.sum(), second / second.sum()])


def test_second_opinion_finds_what_a_label_means():
    """Where label 1 is told of what is class 0 a third of the time, it says less than label 2."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 6000)
    labels = np.where((true == 0) & (rng.random(6000) < 1 / 3), 1, true)
    p = np.full((6000, 3), 0.1)
    p[np.arange(6000), true] = 0.8
    unsure = np.full((2, 3), 1 / 3)
    heard = pseudo.second_opinion(np.vstack([p, unsure]), np.append(labels, [1, 2]))[-2:]
    assert heard[1, 2] > heard[0, 1] > heard[0, 0] > heard[0, 2]


@pytest.fixture(scope="module")
def more(toy_data, tmp_path_factory):
    """Twelve drawn pictures a class: ten those of `toy_data`, two new ones; no split."""
    folder = tmp_path_factory.mktemp("more")
    source = toy.read(folder / "drawn", per_class=12)
    prepare.prepare(Source("more", FI, source.items, [], "CC0", drawn=True), folder / "data", 16,
                    fractions="80/10/10", workers=1)  # fmt: skip
    return folder / "data"


@pytest.fixture(scope="module")
def both(toy_run, toy_data, more, tmp_path_factory):
    """What the command makes of them."""
    out = tmp_path_factory.mktemp("both") / "data"
    told = command("pseudo", toy_run.path, "--data", toy_data, "--more", more, "--out", out)
    assert told.returncode == 0, told.stderr
    assert "near_held_out" in told.stdout
    return out


def test_dev_and_test_stay_and_nothing_near_them_is_added(toy_data, more, both):
    table, own, others = (manifest.read(d) for d in (both, toy_data, more))
    kept = table.loc[table["answered_by"] == "", own.columns]
    pd.testing.assert_frame_equal(kept.set_index("id"), own.set_index("id"), check_like=True)
    added = table[table["answered_by"] != ""]
    left = others[(others["split"] == "train") & ~others["sha256"].isin(own["sha256"])]
    assert 0 < len(added) and {*added["split"]} == {"train"}
    # Drawn pictures resemble each other: more than the copies of held-out ones may be left out.
    assert {*added["sha256"]} <= {*left["sha256"]}
    rejected = pd.read_csv(both / "rejected.csv")
    reasons = ("near_held_out", "group_held_out", "duplicate")
    listed = rejected.loc[rejected["reason"].isin(reasons), "source"]
    assert not added["sha256"].isin(own["sha256"]).any()
    assert len(added) + len(listed) == (others["split"] == "train").sum()
    gone = others.set_index("source").loc[listed, "sha256"]
    copies = others[(others["split"] == "train") & others["sha256"].isin(own["sha256"])]
    assert len(copies) and {*copies["sha256"]} <= {*gone}
    for row in added.to_dict("records"):
        name = row["id"].removeprefix("more_")
        there = more / others.set_index("id").loc[name, "file"]
        assert (both / row["file"]).read_bytes() == there.read_bytes()


def test_answers_are_the_targets(toy_run, toy_data, more, both):
    """Without the heads: Keras' own answers, averaged over mirror images where the run does so."""
    part = pipeline.load(both, "train")
    shares = pd.DataFrame(distribution.shares(part.table, FI.classes), part.table["id"])
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    own = pipeline.load(toy_data, "train")
    expected = (np.eye(8)[own.labels] + predict_split(toy_run, own)[0]) / 2
    assert np.allclose(shares.loc[own.table["id"]], expected, atol=1e-5)
    theirs = pipeline.load(more, "train", FI.classes)
    heard = [i for i, name in enumerate("more_" + theirs.table["id"]) if name in shares.index]
    labels, p = theirs.labels[heard], predict_split(toy_run, theirs)[0][heard].astype(float)
    counts = 1 + np.stack([p[labels == label].sum(axis=0) for label in range(8)])
    joint = p * (counts / counts.sum(axis=0))[labels]
    expected = joint / joint.sum(axis=1, keepdims=True)
    found = shares.loc["more_" + theirs.table["id"].iloc[heard]]
    assert np.allclose(found, expected, atol=1e-4)
    told = part.table.set_index("id").loc[found.index, "label"]
    assert [FI.classes[i] for i in expected.argmax(axis=1)] == told.tolist()
    held_out = pipeline.load(both, "test").table
    assert np.isnan(distribution.shares(held_out, FI.classes)).all()


def test_a_run_learns_them_and_says_so(toy_run, both, tmp_path):
    settings = Settings(epochs=1, batch=16, precision="float32", distributions=True)
    assert train.start("small_cnn", both, tmp_path / "student", settings) == 0
    found = run.load(tmp_path / "student")
    assert np.isin(seen.of(toy_run), seen.of(found)).all()
    figures = json.loads((found.path / "metrics.json").read_text())
    assert "distribution" not in figures and figures["drawn"]
    page = (found.path / "report.html").read_text()
    for words in ("with more", "more: CC0", f"labelled by {toy_run.path}"):
        assert words in page
    assert seen.data_sets(found.config)[1:] == seen.data_sets(toy_run.config)


def test_labelled_pictures_stay_in_training(both, tmp_path):
    told = tool("split.py", both, "--seed", 1)
    assert told.returncode == 2 and "pictures that a run labelled" in told.stderr
    with pytest.raises(UserError, match="pictures that a run labelled"):
        balance.resample(both, tmp_path / "even", 20, None, False, 0)


def test_people_who_are_held_out_are_not_added(toy_data, more):
    table, others = manifest.read(toy_data), manifest.read(more)
    others = others[others["split"] == "train"].reset_index(drop=True)
    everyone, _ = pseudo.apart(table, others, toy_data, more)
    someone = table["split"].eq("dev").to_numpy().argmax()
    table.loc[someone, "group"] = "Ada"
    others.loc[others["id"] == everyone["id"].iloc[0], "group"] = "Ada"
    left, rejected = pseudo.apart(table, others, toy_data, more)
    assert len(left) == len(everyone) - 1
    assert [row[0] for row in rejected if row[1] == "group_held_out"] == [
        everyone["source"].iloc[0]
    ]


def test_what_does_not_fit_is_refused(toy_run, toy_data, more, both, tmp_path):
    out = tmp_path / "out"

    def refused(words, runs=(toy_run,), dataset=toy_data, other=more):
        with pytest.raises(UserError, match=words):
            pseudo.label(runs, dataset, other, out)
        assert not out.exists() and not [*tmp_path.glob("*.part")]

    info = manifest.read_info(more)
    smaller = shutil.copytree(more, tmp_path / "smaller")
    manifest.write(smaller, manifest.to_csv(manifest.read(more)), replace(info, width=8))
    refused("of another size or colour", other=smaller)
    refused("holds copies, or pictures that a run labelled", other=both)
    fewer = run.Run(toy_run.path, {**toy_run.config, "classes": toy_run.classes[:7]})
    refused("does not tell one of amusement", runs=(toy_run, fewer))
    other = run.Run(toy_run.path, {**toy_run.config, "classes": toy_run.classes[::-1]})
    refused("in their order", runs=(other,))
    refused("has no training pictures that", other=toy_data)
    other = tool("split.py", shutil.copytree(toy_data, tmp_path / "again"), "--seed", 5)
    assert other.returncode == 0
    refused("was trained on .* pictures that .* keeps for dev or test", dataset=tmp_path / "again")
    told = command("pseudo", toy_run.path, "--data", toy_data, "--more", more, "--out", both)
    assert told.returncode == 2 and told.stderr.count("\n") == 1
    assert "exists already; choose another --out" in told.stderr


def test_an_interrupted_command_goes_on(toy_run, toy_data, more, both, tmp_path, monkeypatch):
    """Ctrl-C in the third of six batches; the second command answers what is missing only."""
    monkeypatch.setattr(pseudo, "BATCH", 16)
    monkeypatch.setattr(pseudo, "SAVE_EVERY", 1)
    whole, asked = pipeline.batches, []

    def batches(part, size, skip):
        for images, labels in whole(part, size, skip=skip):
            if len(asked) == stop:
                raise KeyboardInterrupt
            asked.append(len(images))
            yield images, labels

    monkeypatch.setattr(pipeline, "batches", batches)
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        pseudo.label([toy_run], toy_data, more, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stop = -1
    pseudo.label([toy_run], toy_data, more, tmp_path / "out")
    assert sum(asked) == sum((manifest.read(d)["split"] == "train").sum() for d in (toy_data, more))
    found, expected = (distribution.shares(manifest.read(d), FI.classes)
                       for d in (tmp_path / "out", both))  # fmt: skip
    assert np.allclose(found, expected, atol=1e-5, equal_nan=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_shares_of_viewers_stay(toy_run, toy_data, more, tmp_path):
    """Half of each picture's viewers saw its class, half the next one."""
    data = shutil.copytree(toy_data, tmp_path / "data")
    table = manifest.read(data)
    half = np.eye(8)[table["label"].map(FI.classes.index)]
    half = (half + np.roll(half, 1, axis=1)) / 2
    told = {f"share_{name}": half[:, i].astype(str) for i, name in enumerate(FI.classes)}
    manifest.write(data, manifest.to_csv(table.assign(**told)), manifest.read_info(data))
    pseudo.label([toy_run], data, more, tmp_path / "out")
    for split in ("train", "test"):
        own = pipeline.load(data, split).table
        found = pipeline.load(tmp_path / "out", split).table.set_index("id").loc[own["id"]]
        before, after = (distribution.shares(each, FI.classes) for each in (own, found))
        if split == "train":
            before = (before + predict_split(toy_run, pipeline.load(data, split))[0]) / 2
        assert np.allclose(after, before, atol=1e-5)


def test_two_runs_of_other_sizes_answer_together(toy_run, toy_data, more, tmp_path):
    """A member of 12 pixels sees the pictures at its size; the targets are of the mean."""
    source = toy.read(tmp_path / "drawn", per_class=10)
    small = tmp_path / "small"
    prepare.prepare(source, small, 12, fractions="60/20/20", workers=1)
    tool("split.py", small, "--like", toy_data)
    settings = Settings(epochs=1, batch=16, precision="float32")
    assert train.start("small_cnn", small, tmp_path / "run", settings) == 0
    second = run.load(tmp_path / "run")
    pseudo.label([second, toy_run], toy_data, more, tmp_path / "out")
    part = pipeline.load(tmp_path / "out", "train")
    own = pipeline.load(toy_data, "train")
    shares = pd.DataFrame(distribution.shares(part.table, FI.classes), part.table["id"])
    logits = second.model(tf.image.resize(tf.cast(own.images, tf.float32), (12, 12)))
    mean = (softmax(logits / second.temperature, axis=1) + predict_split(toy_run, own)[0]) / 2
    expected = (np.eye(8)[own.labels] + mean) / 2
    assert np.allclose(shares.loc[own.table["id"]], expected, atol=1e-5)
