"""The average of several runs."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from deepconnotation import embed, ensemble, evaluate, heatmap, report, run, seen, train
from deepconnotation.answer import answers_of, outputs
from deepconnotation.backend import tf
from deepconnotation.console import UserError
from deepconnotation.data import manifest, pipeline, prepare
from deepconnotation.models import registry
from deepconnotation.settings import Settings

SETTINGS = {"epochs": 1, "batch": 16, "precision": "float32"}


@pytest.fixture(scope="module")
def members(toy_data, tmp_path_factory):
    """Two runs that differ in seed and architecture."""
    folder = tmp_path_factory.mktemp("members")
    tiny = {"seed": 2, "width": 4, "blocks": 1, "columns": 2}
    for arch, given in (("small_cnn", {"seed": 1}), ("fractal", tiny)):
        train.start(arch, toy_data, folder / arch, Settings(**SETTINGS, **given))
    return [run.load(folder / arch) for arch in ("small_cnn", "fractal")]


def probabilities(folder) -> pd.DataFrame:
    table = pd.read_csv(folder / "predictions.csv")
    return table[[c for c in table.columns if c.startswith("p_")]]


def test_answers_are_the_mean_of_the_members(members, toy_data, tmp_path):
    ensemble.main([*(str(m.path) for m in members), "--run", str(tmp_path / "all")])
    found = run.load(tmp_path / "all")
    expected = sum(probabilities(m.path) for m in members) / 2
    expected = softmax(np.log(expected) / found.temperature, axis=1)
    assert np.allclose(probabilities(found.path), expected, atol=2e-6)
    table = pd.read_csv(found.path / "predictions.csv")
    figures = json.loads((found.path / "metrics.json").read_text())
    assert figures["accuracy"]["value"] == (table["label"] == table["predicted"]).mean()
    page, card = ((found.path / name).read_text() for name in ("report.html", "card.md"))
    for told in (page, card):
        assert f"the mean of {members[0].path}, {members[1].path}" in told
        assert "random weights" not in told
    assert "taught by" not in page and "kept: 0" not in page
    assert found.config["members"] == [str(m.path) for m in members]
    evaluate.evaluate(found, toy_data, evaluate.Part("dev"))  # a loaded model, as on any other run
    with pytest.raises(UserError, match="has no embedding; embed its members"):
        embed.embed(str(found.path), toy_data, tmp_path / "embedded")


def test_dev_chooses_the_temperature_and_the_sets_of_the_mean(
    members, toy_data, tmp_path, monkeypatch
):
    """These members know next to nothing; answers that are right more often stand for theirs."""
    dev = pipeline.load(toy_data, "dev")
    knowing = np.random.default_rng(0).normal(0, 1, (len(dev.labels), 8)) + np.eye(8)[dev.labels]
    p = softmax(3 * knowing, axis=1)

    def answers(found, part):
        assert {*part.table["split"]} == {"dev"} and found.path == tmp_path / "all"
        return p, np.zeros((len(p), 0))

    monkeypatch.setattr(evaluate, "predict_split", answers)
    found = ensemble.ensemble(members, tmp_path / "all")

    def loss(temperature: float) -> float:
        return log_loss(dev.labels, softmax(np.log(p) / temperature, axis=1), labels=range(8))

    best = found.temperature
    assert best != 1 and loss(best) < min(loss(0.98 * best), loss(1.02 * best))
    true = softmax(np.log(p) / best, axis=1)[np.arange(len(p)), dev.labels]
    assert (true >= found.config["conformal_cut"] - 1e-6).mean() >= 0.9


def test_an_interrupted_one_leaves_nothing(members, tmp_path, monkeypatch):
    def interrupt(found, part):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "predict_split", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ensemble.ensemble(members, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_stopped_in_its_evaluation_it_goes_on_from_there(members, tmp_path, monkeypatch):
    words = [str(members[0].path), str(members[0].path), "--run", str(tmp_path / "all")]
    monkeypatch.setattr("sys.argv", ["ensemble", *words])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(report, "write", full)
        ensemble.main(words)
    assert not (tmp_path / "all/metrics.json").exists()
    before = (tmp_path / "all/model.keras").stat().st_mtime_ns
    ensemble.main(words)
    assert (tmp_path / "all/report.html").exists() and (tmp_path / "all/metrics.json").exists()
    assert (tmp_path / "all/model.keras").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="exists already"):
        ensemble.main(words)


def test_each_member_sees_pictures_of_its_own_size(members, toy_source, toy_data, tmp_path):
    larger = tmp_path / "larger"
    prepare.prepare(toy_source, larger, 24, fractions="60/20/20", workers=1)
    columns = ["source", "split"]
    tables = [manifest.read(data)[columns] for data in (toy_data, larger)]
    pd.testing.assert_frame_equal(*tables)
    train.start("small_cnn", larger, tmp_path / "run", Settings(**SETTINGS))
    both = (run.load(tmp_path / "run"), members[1])
    found = ensemble.ensemble(both, tmp_path / "both")
    assert found.size == both[0].size == (24, 24) != both[1].size
    images = np.asarray(pipeline.load(larger, "test").images)
    # in one step, a pixel lies at (i + .5) * 24 / 16 - .5 of the larger picture
    places = (np.arange(16) + 0.5) * 1.5 - 0.5
    low = np.floor(places).astype(int)
    share = (places - low)[:, None]
    rows = images[:, low] * (1 - share[..., None]) + images[:, low + 1] * share[..., None]
    small = rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share
    answers = [answers_of(m)(np.asarray(pixels, np.float32))[0]
               for m, pixels in zip(both, (images, small), strict=True)]  # fmt: skip
    expected = softmax(np.log(np.mean(np.exp(answers), axis=0)) / found.temperature, axis=1)
    assert np.allclose(np.exp(answers_of(found)(images)[0]), expected, atol=1e-5)
    one, other, mean = (
        heatmap.grad_cam(m.model)(pixels, [3] * len(images))
        for m, pixels in ((both[0], images), (both[1], small), (found, images))
    )
    assert np.allclose(mean, (one + tf.image.resize(other[..., None], (24, 24))[..., 0]) / 2,
                       atol=1e-5)  # fmt: skip


def test_a_soup_is_one_net_with_the_mean_of_the_weights(members, toy_data, elsewhere, tmp_path):
    first, other = members
    settings = Settings(**SETTINGS, seed=3)
    train.start("small_cnn", elsewhere, tmp_path / "on", settings, str(first.path))
    on = run.load(tmp_path / "on")
    ensemble.main([str(first.path), str(on.path), "--soup", "--run", str(tmp_path / "soup")])
    found = run.load(tmp_path / "soup")
    assert found.config["arch"] == "small_cnn"
    assert found.model.count_params() == first.model.count_params()
    layers = [{w.path: w.numpy() for w in m.model.weights} for m in (first, on, found)]
    for path, mean in layers[2].items():
        assert np.allclose(mean, (layers[0][path] + layers[1][path]) / 2, atol=1e-7)
    moved = max(abs(layers[2][path] - w).max() for path, w in layers[0].items())
    assert moved > 1e-4
    table = pd.read_csv(found.path / "predictions.csv")
    figures = json.loads((found.path / "metrics.json").read_text())
    assert figures["accuracy"]["value"] == (table["label"] == table["predicted"]).mean()
    sources = [f"toy (licence: {first.config['data']['licence']})", "elsewhere (licence: CC0)"]
    next_row = '</td></tr><tr><td class="text"></td><td class="text">'
    for name, between in (("report.html", next_row), ("card.md", "\n  - ")):
        words = (found.path / name).read_text()
        assert f"the mean of the weights of {first.path}, {on.path}" in words
        assert between.join(sources) in words
    train.start("small_cnn", toy_data, tmp_path / "from", Settings(**SETTINGS), str(found.path))
    assert seen.data_sets(run.load(tmp_path / "from").config) == sources
    assert seen.data_sets(on.config) == sources[::-1]
    with pytest.raises(UserError, match="fractal has other layers than .*small_cnn"):
        ensemble.ensemble([first, other], tmp_path / "no", as_soup=True)
    assert not (tmp_path / "no").exists()


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
    with pytest.raises(UserError, match="pictures that .* keeps for dev or test"):
        ensemble.ensemble([members[0], stranger.update(state="finished")], tmp_path / "no")
    merged = train.new_run("small_cnn", other, tmp_path / "m", settings, merges=["anger+fear"])
    with pytest.raises(UserError, match="has another classes than"):
        ensemble.ensemble([members[0], merged.update(state="finished")], tmp_path / "no")
    assert not (tmp_path / "no").exists()
