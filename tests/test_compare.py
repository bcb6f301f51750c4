"""Several runs side by side, results by group, and parts of a data set."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from tools import command, tool

from deepconnotation import compare, evaluate, slices
from deepconnotation.console import UserError
from deepconnotation.data import manifest, pipeline


def answered(name, predicted, labels="aabb" * 25, groups=None):
    table = pd.DataFrame({"id": [f"{i:03}" for i in range(len(labels))], "label": list(labels),
                          "predicted": list(predicted), "group": groups or [""] * len(labels)}
                         )  # fmt: skip
    return compare.Answered(name, ["a", "b"], table, 0, 3.0)


def test_mcnemar_by_hand():
    """Ten discordant pictures, two against eight: twice the tail of two of ten at one half."""
    first = np.array([True] * 8 + [False] * 2 + [True] * 90)
    other = np.array([False] * 8 + [True] * 2 + [True] * 90)
    assert compare.mcnemar(first, other) == pytest.approx(2 * binom.cdf(2, 10, 0.5))
    assert compare.mcnemar(other, first) == pytest.approx(0.109375)
    assert compare.mcnemar(first, first) == 1.0


def test_differences_are_paired():
    """Classifiers that err on the same pictures differ less than their own intervals say."""
    rng = np.random.default_rng(0)
    labels = np.tile(list("aabb"), 100)
    flipped = np.where(labels == "a", "b", "a")
    predicted = np.where(rng.random(400) < 0.3, flipped, labels)
    better = predicted.copy()
    wrong = np.flatnonzero(predicted != labels)[:12]
    better[wrong] = labels[wrong]
    sides = [answered("one", predicted, labels), answered("two", better, labels)]
    found = compare.differences(*sides)
    assert (found["gained"], found["lost"]) == (12, 0) and found["p"] == pytest.approx(2 / 2**12)
    turned = compare.differences(*sides[::-1])
    assert (turned["gained"], turned["lost"], turned["p"]) == (0, 12, found["p"])
    assert found["accuracy"]["value"] == pytest.approx(12 / 400)
    # Twelve of 400, each drawn or not: a binomial's standard deviation.
    spread = (found["accuracy"]["high"] - found["accuracy"]["low"]) / (2 * 1.96)
    assert spread == pytest.approx(np.sqrt(0.03 * 0.97 / 400), rel=0.1)
    # All in one group: the bootstrap draws it whole, so nothing can vary.
    grouped = [replace(side, table=side.table.assign(group="one person")) for side in sides]
    figure = compare.differences(*grouped)["accuracy"]
    assert figure["low"] == pytest.approx(figure["high"])


def test_tables_of_runs(toy_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(toy_run.path, other)
    rows = pd.read_csv(other / "predictions.csv")
    rows["predicted"] = rows["label"]
    rows.sample(frac=1, random_state=0).to_csv(other / "predictions.csv", index=False)
    config = json.loads((other / "run.json").read_text("utf-8"))
    config["settings"]["seed"] += 1
    config["train_seconds"] = 150
    (other / "run.json").write_text(json.dumps(config), "utf-8")
    done = command("evaluate", toy_run.path, other)
    assert done.returncode == 0, done.stderr
    value = json.loads((toy_run.path / "metrics.json").read_text())["accuracy"]["value"]
    assert f"| mean ± s.d. | {np.mean([value, 1]):.3f} ± {np.std([value, 1], ddof=1):.3f} |" in (
        done.stdout
    )
    assert "| 2.5 min |" in done.stdout
    assert f"| {other} | {1 - value:+.3f} (" in done.stdout
    sides = compare.load([str(toy_run.path), str(other)])
    for apart in ([sides[0]], [sides[0], replace(sides[1], recipe=None)]):
        assert "mean ±" not in compare.as_markdown(apart)
    config["settings"]["epochs"] += 1
    (other / "run.json").write_text(json.dumps(config), "utf-8")
    assert "mean ±" not in compare.as_markdown(compare.load([str(toy_run.path), str(other)]))

    for change, message in (
        (lambda rows: rows[1:], "other pictures"),
        (lambda rows: rows.assign(label=rows["label"][::-1].to_numpy()), "other labels"),
    ):
        change(rows).to_csv(other / "predictions.csv", index=False)
        with pytest.raises(UserError, match=message):
            compare.load([str(toy_run.path), str(other)])
    (other / "predictions.csv").unlink()
    with pytest.raises(UserError, match="no such file; give python -m deepconnotation.evaluate"):
        compare.load([str(toy_run.path), str(other)])
    assert command("evaluate", toy_run.path, other, "--by", "size").returncode == 2


def test_slices_by_hand(toy_data):
    part = pipeline.load(toy_data, "train")
    table = part.table.assign(
        contributor=["u1", "u2"] * (len(part.labels) // 2), width="16",
        height=[str(4 * (1 + i % 4) ** 2) for i in range(len(part.labels))],
    )  # fmt: skip
    labels = part.labels
    predicted = np.where(table["contributor"] == "u1", labels, (labels + 1) % 8)

    def measured(**columns):
        return slices.measured(pipeline.Split(table.assign(**columns), part.images, labels))

    asked = labels, predicted, list("abcdefgh")
    found = slices.summarise(measured(), *asked, ["contributor", "size"])
    assert [(r["value"], r["accuracy"]["value"]) for r in found["contributor"]] == [
        ("u1", 1.0), ("u2", 0.0)]  # fmt: skip
    assert sum(r["images"] for r in found["size"]) == len(table)
    # sqrt(16 * 4 k^2) = 8 k, so every quarter is one value of k, and k is odd where u1 gave it.
    assert [r["value"] for r in found["size"]] == [
        f"{k}: {8 * k} to {8 * k} pixels" for k in (1, 2, 3, 4)
    ]
    assert [r["accuracy"]["value"] for r in found["size"]] == [1, 0, 1, 0]
    ages = measured(age=[str(k % 12 or "") for k in range(len(table))])
    found = slices.summarise(ages, *asked, ["age"])["age"]
    assert [row["value"] for row in found] == [*map(str, range(1, 12)), "(none)"]
    assert slices.by_default(measured()) == ["contributor", "size", "sharpness"]
    assert slices.by_default(measured(contributor="u1", height="9")) == ["sharpness"]
    with pytest.raises(UserError, match="--by colour: no such column; there are size, sharpness, "):
        slices.values_of(measured(), "colour")
    with pytest.raises(UserError, match="48 different words"):
        slices.values_of(measured(), "id")


def test_thirteen_numbers_are_cut_at_their_quartiles(toy_data):
    part = pipeline.load(toy_data, "train")
    for many, wanted in (
        (12, {str(n): 4 for n in range(1, 13)}),
        # four each of 1 to 9, three of 10 to 13
        (13, {"1: 1 to 3": 12, "2: 4 to 6": 12, "3: 7 to 9": 12, "4: 10 to 13": 12}),
    ):
        table = part.table.assign(number=[str(1 + k % many) for k in range(48)])
        found = slices.values_of(table, "number")
        assert found.value_counts().to_dict() == wanted
    alike = pipeline.Split(part.table.assign(width="9", height="4"), part.images, part.labels)
    assert set(slices.values_of(slices.measured(alike), "size")) == {"1: 6 to 6 pixels"}


def test_blurred_pictures_are_the_least_sharp(toy_data):
    part = pipeline.load(toy_data, "train")
    images = np.asarray(part.images).copy()
    images[: len(images) // 4] = 128
    blurred = slices.measured(pipeline.Split(part.table, images, part.labels))
    quarters = slices.values_of(blurred, "sharpness")
    assert (quarters[: len(images) // 4].str[0] == "1").all()


def test_pictures_and_classes_can_be_left_out(toy_run, toy_data, tmp_path, capsys):
    before = (toy_run.path / "metrics.json").read_bytes()
    table = manifest.read(toy_data)
    gone = table[table["split"] == "test"]["source"].iloc[0]
    what = evaluate.Part(without=[f"source={gone}"])
    summary = evaluate.evaluate(toy_run, toy_data, what, ["label"])
    assert summary["images"] == 15 and f"left out: 1 (source={gone})" in capsys.readouterr().out
    assert len(summary["slices"]["label"]) == 8
    assert (toy_run.path / "metrics.json").read_bytes() == before
    with pytest.raises(UserError, match="no picture has that; split is test"):
        evaluate.evaluate(toy_run, toy_data, evaluate.Part(without=["split=none"]))
    with pytest.raises(UserError, match="no column 'colour'"):
        evaluate.evaluate(toy_run, toy_data, evaluate.Part(without=["colour=red"]))


def test_another_data_set_with_other_classes(toy_run, toy_data, tmp_path):
    """Three classes by name, one of them unknown to the run, in another order."""
    data = tmp_path / "faces"
    shutil.copytree(toy_data, data)
    table = manifest.read(toy_data)
    table = table[table["label"].isin(["sadness", "fear", "awe"])]
    table["label"] = table["label"].replace("awe", "surprise")
    info = replace(manifest.read_info(toy_data), classes=("surprise", "sadness", "fear"))
    manifest.write(data, manifest.to_csv(table), info)
    with pytest.raises(UserError, match="--shared takes those"):
        evaluate.evaluate(toy_run, data)
    summary = evaluate.evaluate(toy_run, data, evaluate.Part(shared=True))
    assert summary["left_out"] == {"label surprise": 2} and summary["images"] == 4
    rows = pd.read_csv(toy_run.path / "predictions-faces-shared.csv").set_index("id")
    whole = pd.read_csv(toy_run.path / "predictions.csv").set_index("id").loc[rows.index]
    pair = whole[["p_fear", "p_sadness"]].to_numpy()
    expected = pair / pair.sum(axis=1, keepdims=True)
    assert np.allclose(rows[["p_fear", "p_sadness"]], expected, atol=1e-4)
    assert list(rows["predicted"]) == [("fear", "sadness")[i] for i in expected.argmax(axis=1)]
    page = (toy_run.path / "report-faces-shared.html").read_text()
    assert "2 (label surprise)" in page and "Data it was trained on" in page


def test_one_kind_of_pictures_is_held_out_with_its_people(toy_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)
    table = manifest.read(data).sort_values("id").reset_index(drop=True)
    table["contributor"] = ["u1", "u2", "u2", "u2"] * (len(table) // 4)
    table.loc[[0, 1], "group"] = "Anna"  # of both contributors
    manifest.write(data, manifest.to_csv(table), manifest.read_info(data))
    done = tool("split.py", data, "--hold-out", "contributor=u1", "--allow-missing")
    assert done.returncode == 0, done.stderr
    found = manifest.read(data)
    held = found["split"] == "test"
    assert set(found["id"][held]) >= set(table["id"][table["contributor"] == "u1"])
    assert found["id"][1] in set(found["id"][held])
    crossing = found[found["group"] != ""].groupby("group")["split"].nunique()
    assert (crossing == 1).all()
    assert "contributor=u1 held out" in manifest.read_info(data).split
    done = tool("split.py", data, "--hold-out", "contributor=u9")
    assert done.returncode == 2 and "contributor is u2, u1" in done.stderr
