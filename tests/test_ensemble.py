"""The average of several runs."""

import json

import numpy as np
import pandas as pd
import pytest

from deepconnotation import embed, ensemble, evaluate, run, train
from deepconnotation.answer import outputs
from deepconnotation.console import UserError
from deepconnotation.data import prepare
from deepconnotation.models import registry
from deepconnotation.settings import Settings

SETTINGS = {"epochs": 1, "batch": 16, "precision": "float32"}


@pytest.fixture(scope="module")
def members(toy_data, tmp_path_factory):
    """Two runs that differ in seed and architecture."""
    folder = tmp_path_factory.mktemp("members")
    for arch, given in (("small_cnn", {"seed": 1}), ("resnet18", {"seed": 2, "width": 4})):
        train.start(arch, toy_data, folder / arch, Settings(**SETTINGS, **given))
    return [run.load(folder / arch) for arch in ("small_cnn", "resnet18")]


def probabilities(folder) -> pd.DataFrame:
    table = pd.read_csv(folder / "predictions.csv")
    return table[[c for c in table.columns if c.startswith("p_")]]


def test_answers_are_the_mean_of_the_members(members, toy_data, tmp_path):
    ensemble.main([*(str(m.path) for m in members), "--run", str(tmp_path / "all")])
    found = run.load(tmp_path / "all")
    expected = sum(probabilities(m.path) for m in members) / 2
    assert np.allclose(probabilities(found.path), expected, atol=2e-6)
    table = pd.read_csv(found.path / "predictions.csv")
    figures = json.loads((found.path / "metrics.json").read_text())
    assert figures["accuracy"]["value"] == (table["label"] == table["predicted"]).mean()
    assert (found.path / "report.html").exists()
    assert found.config["members"] == [str(m.path) for m in members]
    evaluate.evaluate(found, toy_data, evaluate.Part("dev"))  # a loaded model, as on any other run
    with pytest.raises(UserError, match="has no embedding; embed its members"):
        embed.embed(str(found.path), toy_data, tmp_path / "embedded")


def test_valence_is_told_only_where_all_members_tell_it():
    plain, telling = (
        registry.build("small_cnn", (32, 32, 3), 5, affect=affect) for affect in (False, True)
    )
    images = np.zeros((2, 32, 32, 3), np.float32)
    logits, told = outputs(ensemble.average([plain, telling], [1.0, 1.0]), images, training=False)
    assert logits.shape == (2, 5) and told.shape == (2, 0)


def test_what_does_not_belong_together_is_refused(members, toy_source, toy_run, tmp_path):
    with pytest.raises(UserError, match="two runs or more"):
        ensemble.ensemble(members[:1], tmp_path / "one")
    other = tmp_path / "other"
    prepare.prepare(toy_source, other, 16, seed=7, fractions="60/20/20", workers=1)
    settings = Settings(**SETTINGS)
    stranger = train.new_run("small_cnn", other, tmp_path / "run", settings)
    with pytest.raises(UserError, match="run is running; finish it first"):
        ensemble.ensemble([members[0], stranger], tmp_path / "no")
    with pytest.raises(UserError, match="another data set or splits than"):
        ensemble.ensemble([members[0], stranger.update(state="finished")], tmp_path / "no")
    merged = train.new_run("small_cnn", other, tmp_path / "m", settings, merges=["anger+fear"])
    with pytest.raises(UserError, match="has another classes than"):
        ensemble.ensemble([members[0], merged.update(state="finished")], tmp_path / "no")
    assert not (tmp_path / "no").exists()
