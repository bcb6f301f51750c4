"""Several labels a picture: figures by hand, thresholds, and a net that learns them."""

import json
from importlib.util import find_spec
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from tools import command

from deepconnotation import distribution, ensemble, losses, multilabel, run, train
from deepconnotation.backend import tf
from deepconnotation.console import UserError
from deepconnotation.data import manifest, prepare
from deepconnotation.data.sources import Item, Source
from deepconnotation.emotions import FI
from deepconnotation.settings import Settings


def test_average_precision_and_f1_by_hand():
    """Ranked yes, no, yes: (1/1 + 2/3) / 2. Ranked no, yes, no: 1/2. A third class never occurs."""
    true = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    p = np.array([[0.9, 0.6, 0.1], [0.8, 0.5, 0.1], [0.3, 0.4, 0.1]])
    found = multilabel.figures(true, p, [0.3, 0.5, 1.0])
    assert found["average_precision"] == [pytest.approx(5 / 6), pytest.approx(0.5), None]
    assert found["map"] == pytest.approx((5 / 6 + 0.5) / 2)
    # the first class: two right of three told; the second: one right of two told
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert found["micro_f1"] == pytest.approx(2 * 3 / (5 + 3))


def test_thresholds_have_the_highest_f1():
    true = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [0, 0]], bool)
    p = np.array([[0.9, 0.2], [0.7, 0.2], [0.6, 0.2], [0.2, 0.2], [0.1, 0.2]])
    # .7: two of two, of three: 4/5; .2: three of four: 6/7
    assert multilabel.thresholds(true, p) == [0.2, 1.0]


def test_no_other_threshold_has_a_higher_f1():
    """Of all that tell pictures apart, by scikit-learn's F1; ties within a class included."""
    rng = np.random.default_rng(0)
    true = rng.random((60, 6)) < [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
    p = (0.6 * rng.random((60, 6)) + 0.4 * true * rng.random((60, 6))).round(2)
    for there, values, cut in zip(true.T, p.T, multilabel.thresholds(true, p), strict=True):
        reached = {value: f1_score(there, values >= value) for value in set(values)}
        assert reached[cut] == pytest.approx(max(reached.values()))


def test_the_loss_by_hand():
    logits, targets = tf.constant([[0.0, 2.0]]), tf.constant([[1.0, 0.0]])
    expected = (np.log(2) + 3 * np.log1p(np.exp(2))) / 2
    loss = losses.multi_label_loss(targets, logits, tf.constant([1.0, 3.0]))
    assert loss.numpy() == pytest.approx([expected])


def test_classes_that_somebody_chose():
    table = pd.DataFrame({"label": ["awe", "anger"], "share_awe": ["0.5", ""],
                          "share_anger": ["0", ""], "share_fear": ["0.5", ""]})  # fmt: skip
    found = multilabel.present(table, ["awe", "anger", "fear"])
    assert found.tolist() == [[True, False, True], [False, True, False]]
    merged = multilabel.present(table, ["awe+anger", "fear"])
    assert merged.tolist() == [[True, True], [True, False]]


def test_learned_told_and_measured(toy_source, toy_data, tmp_path):
    """Pleasant pictures have their own label and contentment, the others theirs alone."""

    def shared(item: Item) -> Item:
        votes = np.eye(8)[FI.id_of(item.label)]
        if FI.polarity(item.label) > 0:
            votes[FI.id_of("contentment")] = 1
        return Item(item.source, item.label, item.path,
                    extra=distribution.columns(votes.tolist(), FI.classes))  # fmt: skip

    data, folder = tmp_path / "data", tmp_path / "run"
    source = Source("several", FI, [shared(i) for i in toy_source.items], [], "", drawn=True)
    prepare.prepare(source, data, 16, fractions="50/25/25", workers=1)
    settings = Settings(epochs=12, batch=8, rate=0.02, multi_label=True, shift=0,
                        test_flip=True, precision="float32")  # fmt: skip
    assert train.start("small_cnn", data, folder, settings) == 0
    found = run.load(folder)
    cuts = found.config["thresholds"]
    figures = json.loads((folder / "metrics.json").read_text())["multi_label"]
    table = pd.read_csv(folder / "predictions.csv", dtype={"id": str}).set_index("id")
    p = table[[f"p_{c}" for c in FI.classes]].to_numpy()
    rows = manifest.read(data).set_index("id").loc[table.index]
    there = multilabel.present(rows, FI.classes)
    again = multilabel.figures(there, p, cuts)
    for name, value in figures.items():
        assert value == pytest.approx(again[name], abs=1e-4)
    chance = there.mean(axis=0).mean()
    assert figures["average_precision"][FI.id_of("contentment")] > 0.7 and figures["map"] > chance
    assert p.sum(axis=1).std() > 0.01  # a probability a class, no distribution
    history = pd.read_csv(folder / "history.csv")
    assert len(cuts) == 8 and history["val_loss"].idxmin() + 1 == found.config["best_epoch"]
    picture = f"{data}/{rows['file'].iloc[0]}"
    told = pd.read_csv(StringIO(command("predict", folder, picture, "--csv").stdout)).iloc[0]
    expected = [c for c, v, cut in zip(FI.classes, p[0], cuts, strict=True) if v >= cut]
    assert str(told["labels"]).replace("nan", "").split() == expected
    assert "mAP" in (folder / "report.html").read_text()
    if find_spec("gradio"):
        from deepconnotation.demo_page import Page

        _, shown, listed, _ = Page(found, tmp_path).answer_all([picture])
        assert shown[0][1] == listed["answer"][0] == (", ".join(expected) or "none of them")
    with pytest.raises(UserError, match="several labels"):
        ensemble.check([found, found])
    with pytest.raises(UserError, match="--focal is for one label"):
        Settings(multi_label=True, focal=1.0).check()
