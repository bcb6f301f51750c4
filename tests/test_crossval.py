"""Cross-validation: every picture is answered once, by a net that has not learned from it."""

import html
import json
import re
import shutil
import statistics

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from tools import command

from deepconnotation import affect, card, crossval, crossval_page, evaluate, predictions, run, train
from deepconnotation.console import UserError
from deepconnotation.data import manifest

WORDS = "--folds 3 --arch small_cnn --epochs 1 --batch 16 --precision float32 --affect l2".split()


@pytest.fixture(scope="module")
def data(toy_data, tmp_path_factory):
    """Pictures of four people, and others that are nobody's; half of them are rated."""
    folder = shutil.copytree(toy_data, tmp_path_factory.mktemp("people") / "data")
    table = manifest.read(folder)
    table["group"] = [f"person{i % 4}" if i < 24 else "" for i in range(len(table))]
    table["contributor"] = ["u1" if i < 30 else "u2" for i in range(len(table))]
    rng = np.random.default_rng(0)
    for name in affect.NAMES:
        values = rng.uniform(-1, 1, len(table)).round(3).astype(str)
        table[name] = np.where(np.arange(len(table)) % 2, values, "")
    manifest.write(folder, manifest.to_csv(table), manifest.read_info(folder))
    return folder


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """A cross-validation that was stopped in its second fold, and went on."""
    folder = tmp_path_factory.mktemp("runs") / "cv"
    words, trained = [*WORDS, "--data", str(data), "--run", str(folder)], []
    whole = train.main

    def stopped(arguments):
        trained.append(arguments)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return whole(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "main", stopped)
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            crossval.main(words)
        assert not (folder / "metrics.json").exists()
        with pytest.raises(UserError, match="it goes on with its own command"):
            train.main(["--resume", str(folder)])
        assert crossval.main(words) == 0
    assert [each[-1] for each in trained if each[0] != "--resume"] == [
        str(folder / f"fold-{fold}") for fold in (1, 2, 2, 3)
    ]
    return folder


def test_every_picture_is_tested_once_and_never_learned_from_there(made, data):
    table, tested = manifest.read(data), []
    for fold in (1, 2, 3):
        parts = manifest.read(made / f"data-{fold}").set_index("id")
        assert set(parts.index) == set(table["id"])
        assert parts.groupby(parts["group"].where(parts["group"] != "", parts.index)
                             )["split"].nunique().max() == 1  # fmt: skip
        asked = pd.read_csv(made / f"fold-{fold}/predictions.csv", dtype=str)["id"]
        assert set(asked) == set(parts.index[parts["split"] == "test"])
        config = json.loads((made / f"fold-{fold}/run.json").read_text())
        assert config["command"].endswith(f"--data {made}/data-{fold} --run {made}/fold-{fold}")
        tested += list(asked)
        dev = set(parts.index[parts["split"] == "dev"])
        after = manifest.read(made / f"data-{fold % 3 + 1}")
        assert dev == set(after.loc[after["split"] == "test", "id"])
    assert sorted(tested) == sorted(table["id"])
    picture = table["file"].iloc[0]
    (copy,) = (made / "data-1").rglob(picture.rpartition("/")[2])
    assert copy.samefile(data / picture)  # it takes no room


def test_figures_are_those_of_all_answers_together(made, data):
    figures = json.loads((made / "metrics.json").read_text())
    answers = pd.read_csv(made / "predictions.csv")
    right = manifest.read(data).set_index("id")["label"].loc[answers["id"]].tolist()
    assert answers["label"].tolist() == right
    predicted = answers["predicted"].tolist()
    assert figures["images"] == len(right) == 80
    assert figures["accuracy"]["value"] == pytest.approx(accuracy_score(right, predicted))
    assert figures["balanced_accuracy"]["value"] == pytest.approx(
        balanced_accuracy_score(right, predicted)
    )
    folds = [json.loads((made / f"fold-{n}/metrics.json").read_text()) for n in (1, 2, 3)]
    assert [f["accuracy"] for f in figures["folds"]] == [f["accuracy"] for f in folds]
    values = [f["accuracy"]["value"] for f in folds]
    page = (made / "report.html").read_text()
    assert f"{statistics.mean(values):.3f}&nbsp;±&nbsp;{statistics.stdev(values):.3f}" in page
    first = folds[0]["accuracy"]  # a range is not broken on a telephone
    assert f"({first['low']:.3f}&nbsp;to&nbsp;{first['high']:.3f})</td>" in page
    assert "drawn by the program" in page and "the one of 3 nets" in page
    linked = re.findall(r'href="([^"]*)"', page)
    assert len(linked) == 3 and all((made / each).is_file() for each in linked)
    sizes = [f["images"] for f in folds]
    for name, key in (("calibration", "brier"), ("sets", "coverage"), ("sets", "size")):
        mean = sum(f[name][key] * n for f, n in zip(folds, sizes, strict=True)) / sum(sizes)
        assert figures[name][key] == pytest.approx(mean, abs=1e-5)
    temperatures = [f["calibration"]["temperature"] for f in folds]
    assert min(temperatures) <= figures["calibration"]["temperature"] <= max(temperatures)


def test_groups_are_of_all_folds_together(made, data):
    """Each picture is counted once, by its contributor and by quartiles of all sharpness."""
    figures = json.loads((made / "metrics.json").read_text())["slices"]
    answers = pd.read_csv(made / "predictions.csv").set_index("id")
    table = manifest.read(data).set_index("id").loc[answers.index]
    right = answers["label"] == answers["predicted"]
    assert list(figures) == ["contributor", "sharpness"]
    assert {row["value"]: row["accuracy"]["value"] for row in figures["contributor"]} == {
        name: pytest.approx(right[table["contributor"] == name].mean()) for name in ("u1", "u2")
    }
    assert [row["images"] for row in figures["sharpness"]] == [20] * 4
    for rows in figures.values():
        hits = sum(row["images"] * row["accuracy"]["value"] for row in rows)
        assert hits == pytest.approx(right.sum())
    assert "<h3>By sharpness</h3>" in (made / "report.html").read_text()


def test_the_page_says_which_net_to_use(made, data):
    """The command that it names answers a picture; what not to use a net for is said, too."""
    page = html.unescape((made / "report.html").read_text())
    (named,) = re.findall(r"python -m deepconnotation\.predict (\S+) photo\.jpg", page)
    picture = data / manifest.read(data)["file"].iloc[0]
    assert str(picture) in command("predict", named, picture).stdout
    assert card.uses(run.load(made).config)[1][0] in page


def test_ratings_of_all_folds_together(made, data, tmp_path, capsys):
    """Beside the classes, and where the nets learned them alone."""
    answers = pd.read_csv(made / "predictions.csv")
    rated = manifest.read(data).set_index("id").loc[answers["id"]]
    figures = json.loads((made / "metrics.json").read_text())
    for name in affect.NAMES:
        gap = answers[name].to_numpy() - pd.to_numeric(rated[name]).to_numpy()
        error = figures["affect"][name]["rmse"]["value"]
        assert error == pytest.approx(np.sqrt(np.nanmean(gap**2)), abs=1e-6)
    page = (made / "report.html").read_text()
    assert "Confusion matrix" in page and "circumplex" in page

    alone = run.load(shutil.copytree(made, tmp_path / "alone"))
    alone = alone.update(settings={**alone.config["settings"], "affect_share": 1})
    told = crossval_page.write(alone, data)
    assert told["affect"] == figures["affect"] and not {"accuracy", "slices"} & {*told}
    assert "valence CCC, mean ± s.d. of 3 folds" in capsys.readouterr().out
    page = (alone.path / "report.html").read_text()
    assert "(CCC) on 80 pictures (all folds): valence" in page and "Confusion matrix" not in page
    assert [*pd.read_csv(alone.path / "predictions.csv")] == [
        "id", "source", "group", "label", *affect.NAMES
    ]  # fmt: skip


def test_several_are_compared_picture_by_picture(made, tmp_path):
    other = shutil.copytree(made, tmp_path / "other")
    answers = pd.read_csv(other / "predictions.csv", dtype=str)
    wrong = predictions.read(made / "predictions.csv", ["id", "label", "predicted"], "")
    mended = wrong.index[wrong["label"] != wrong["predicted"]][:5]
    answers.loc[mended, "predicted"] = answers.loc[mended, "label"]
    answers.to_csv(other / "predictions.csv", index=False)
    said = command("evaluate", made, other).stdout.splitlines()
    assert said[-1].split(" | ")[4:6] == ["5", "0"]


def test_what_does_not_fit_is_refused(made, data, toy_run, tmp_path):
    where = ["--data", str(data), "--run"]
    for more, what in (
        (["--folds", "4"], "holds something else"), (["--seed", "1"], "holds something else"),
        (["--resume", "x"], "the same command again"), (["--multi-label"], "several labels"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=what):
            crossval.main([*WORDS, *where, str(made), *more])
    with pytest.raises(UserError, match="holds something else"):
        crossval.main([*WORDS, *where, str(toy_run.path)])
    assert (toy_run.path / "model.keras").exists()
    with pytest.raises(UserError, match="--folds 81: .* too few pictures"):
        crossval.main([*WORDS, *where, str(tmp_path / "cv"), "--folds", "81"])
    assert not (tmp_path / "cv").exists()
    with pytest.raises(UserError, match="was trained on .* pictures that .*data-1 keeps for dev"):
        crossval.main([*WORDS, *where, str(tmp_path / "cv"), "--weights", str(toy_run.path)])
    assert crossval.begin(crossval.parse([*WORDS, *where, str(tmp_path / "cv")])[0])  # free again
    with pytest.raises(UserError, match="is a cross-validation; give one of its folds' nets"):
        crossval.main([*WORDS, *where, str(tmp_path / "cv2"), "--weights", str(made)])
    with pytest.raises(UserError, match="is a cross-validation; give one of its folds' nets"):
        evaluate.main([str(made)])
    done = command("predict", made, data)
    assert done.returncode == 2 and "a cross-validation has a net a fold" in done.stderr
