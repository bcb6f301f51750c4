"""Label distributions: figures by hand, reading, learning."""

import json

import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import entropy

from deepconnotation import distribution, fit, run, train
from deepconnotation.console import UserError
from deepconnotation.data import manifest, pipeline, prepare
from deepconnotation.data.sources import Item, Options, Source, read
from deepconnotation.emotions import FI
from deepconnotation.settings import Settings


def test_figures_by_hand():
    """.5 .5 0 against .25 .5 .25."""
    found = distribution.figures(np.array([[0.5, 0.5, 0]]), np.array([[0.25, 0.5, 0.25]]))
    assert found["kl"] == pytest.approx(0.5 * np.log(2))
    assert found["chebyshev"] == pytest.approx(0.25)
    assert found["canberra"] == pytest.approx(0.25 / 0.75 + 0 + 1)
    assert found["cosine"] == pytest.approx(0.375 / np.sqrt(0.5 * 0.375))
    assert found["intersection"] == pytest.approx(0.75)


def test_figures_against_scipy():
    d, p = np.random.default_rng(0).dirichlet(np.ones(8), (2, 50))
    found = distribution.figures(d, p)
    pairs = list(zip(d, p, strict=True))
    assert found["kl"] == pytest.approx(np.mean([entropy(a, b) for a, b in pairs]))
    assert found["chebyshev"] == pytest.approx(np.mean([distance.chebyshev(*x) for x in pairs]))
    assert found["canberra"] == pytest.approx(np.mean([distance.canberra(*x) for x in pairs]))
    assert found["cosine"] == pytest.approx(1 - np.mean([distance.cosine(*x) for x in pairs]))
    same = distribution.figures(d, d)
    assert [round(v, 9) for v in same.values()] == [0, 0, 0, 1, 1]


def test_votes_of_a_list_become_shares(tmp_path):
    header = ["url", *FI.classes]
    path = tmp_path / "votes.csv"
    votes = {"http://a/1.jpg": [3, 1, *[0] * 6], "http://a/2.jpg": [0, 0, 0, 0, 0, 0.5, 0.25, 0.25]}
    lines = [",".join([url, *map(str, row)]) for url, row in votes.items()]
    path.write_text("\n".join([",".join(header), *lines]))
    first, second = read("folder", [path], Options(emotions="fi8")).items
    assert (first.label, second.label) == ("amusement", "excitement")
    assert first.extra["share_amusement"] == "0.75" and second.extra["share_fear"] == "0.25"
    for bad, words in (("x", "row 2: 'x' is no number"), ("-1", "row 2: '-1' is no number")):
        path.write_text("\n".join([",".join(header), f"http://a/1.jpg,{bad}" + ",0" * 7]))
        with pytest.raises(UserError, match=words):
            read("folder", [path], Options(emotions="fi8"))
    path.write_text("\n".join([",".join(header), "http://a/1.jpg" + ",0" * 8]))
    with pytest.raises(UserError, match="row 2: no vote for any class"):
        read("folder", [path], Options(emotions="fi8"))


def test_shares_are_learned_measured_and_merged(toy_source, toy_data, tmp_path):
    """Every picture of a class has half of its votes there and half on the next class."""
    def shared(item: Item) -> Item:
        votes = np.zeros(8)
        votes[[FI.id_of(item.label), (FI.id_of(item.label) + 1) % 8]] = 1
        extra = distribution.columns(votes.tolist(), FI.classes)
        return Item(item.source, item.label, item.path, extra=extra)

    source = Source("shared", FI, [shared(i) for i in toy_source.items], [], "", drawn=True)
    data = tmp_path / "data"
    prepare.prepare(source, data, 16, fractions="60/20/20", workers=1)
    table = manifest.read(data)
    merged = distribution.shares(table, ["amusement+anger", *FI.classes[2:]])
    assert np.allclose(merged.sum(axis=1), 1)
    assert np.allclose(merged[table["label"] == "amusement", 0], 1)
    settings = Settings(epochs=3, batch=16, rate=0.02, distributions=True, precision="float32")
    assert train.start("small_cnn", data, tmp_path / "run", settings) == 0
    found = run.load(tmp_path / "run")
    figures = json.loads((found.path / "metrics.json").read_text())["distribution"]
    assert {*figures} == {*distribution.FIGURES} and 0 < figures["kl"] < np.inf
    page = (found.path / "report.html").read_text().replace("&#x27;", "'")
    assert "to the viewers' shares" in page and "each picture's shares of the classes" in page
    assert "by labels alone" not in page
    part = pipeline.load(data, "train")
    made = fit.Trainer(found, found.model, settings, part, None, say=lambda line: None)
    assert np.allclose(made.targets, distribution.shares(part.table, FI.classes))
    with pytest.raises(UserError, match="tells no shares"):
        train.start("resnet18", toy_data, tmp_path / "none", settings)
