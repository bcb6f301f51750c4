"""What a run has learned from is known wherever it goes, and nobody is tested on it there."""

import hashlib
import shutil

import numpy as np
import pytest

from deepconnotation import embed, ensemble, evaluate, run, seen, train
from deepconnotation.console import UserError
from deepconnotation.data import manifest, prepare
from deepconnotation.data.sources import toy
from deepconnotation.settings import Settings

SETTINGS = Settings(epochs=1, batch=16)


@pytest.fixture(scope="module")
def again(toy_source, tmp_path_factory):
    """The pictures of `toy_data` in other splits."""
    out = tmp_path_factory.mktemp("again") / "data"
    prepare.prepare(toy_source, out, 16, fractions="60/20/20", seed=1, workers=1)
    return out


def sources(dataset, split) -> set[str]:
    table = manifest.read(dataset)
    return {*table.loc[table["split"] == split, "source"]}


def test_digests_are_those_of_the_training_files(toy_source, toy_data, toy_run):
    expected = set()
    for picture in toy_source.items:
        if picture.source in sources(toy_data, "train"):
            digest = hashlib.sha256(picture.path.read_bytes()).digest()
            expected.add(int.from_bytes(digest[:8], "big"))
    assert len(expected) == 48 and {*map(int, np.load(toy_run.path / "seen.npy"))} == expected


def test_weights_are_refused_for_what_the_start_of_their_start_has_seen(toy_data, again, tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    shutil.copytree(toy_data, data)
    prepare.prepare(toy.read(tmp_path / "drawn", per_class=12), other, 24, workers=1)
    table = manifest.read(other)
    there = table["sha256"].isin(manifest.read(data)["sha256"])
    manifest.write(other, manifest.to_csv(table[~there]), manifest.read_info(other))
    train.new_run("small_cnn", data, tmp_path / "a", SETTINGS)
    train.new_run("small_cnn", other, tmp_path / "b", SETTINGS, str(tmp_path / "a"))
    shutil.rmtree(data)
    held = sources(again, "dev") | sources(again, "test")
    count = len(held & sources(toy_data, "train"))
    with pytest.raises(UserError, match=f"/b was trained on {count} pictures .* --like"):
        train.new_run("small_cnn", again, tmp_path / "c", SETTINGS, str(tmp_path / "b"))
    assert not (tmp_path / "c").exists()
    train.new_run("small_cnn", toy_data, tmp_path / "c", SETTINGS, str(tmp_path / "b"))


@pytest.mark.parametrize(("arch", "sources"), [
    ("mobilenet_v2", ["ImageNet (ILSVRC 2012)"]),
    ("show_and_tell", ["MSCOCO (captions)", "ImageNet (ILSVRC 2012)"]),
])  # fmt: skip
def test_what_weights_from_elsewhere_learned_from_is_told(arch, sources, toy_data, tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"read when training starts")
    found = train.new_run(arch, toy_data, tmp_path / "r", SETTINGS, str(file))
    assert seen.data_sets(found.config)[1:] == sources


def test_evaluation_elsewhere_leaves_out_what_was_seen(toy_run, again, tmp_path, capsys):
    shutil.copytree(toy_run.path, tmp_path / "run")
    found = run.load(tmp_path / "run")
    found = found.update(data={**found.config["data"], "drawn": False})
    known = sources(again, "test") & set(manifest.read(toy_run.config["data"]["path"])
                                         .query("split == 'train'")["source"])  # fmt: skip
    summary = evaluate.evaluate(found, again)
    assert 0 < len(known) < 16 and summary["left_out"] == {"seen in training": len(known)}
    assert summary["images"] == 16 - len(known)
    assert summary["drawn"]  # whatever the run was trained on
    assert f"left out: {len(known)} (seen in training)" in capsys.readouterr().out
    page = (found.path / f"report-{again.name}.html").read_text()
    assert f"{len(known)} (seen in training)" in page and summary["fingerprint"][:16] in page
    assert f"--data {again} --split test" in page
    table = manifest.read(again)
    table = table[(table["split"] != "test") | table["source"].isin(known)]
    few = tmp_path / "few"
    shutil.copytree(again, few)
    manifest.write(few, manifest.to_csv(table), manifest.read_info(again))
    with pytest.raises(UserError, match=rf"be left; left out: {len(known)} \(seen in training\)"):
        evaluate.evaluate(found, few)


def test_a_backbone_that_has_seen_test_pictures_is_refused(toy_run, again, tmp_path):
    with pytest.raises(UserError, match=r"the backbone .* was trained on \d+ pictures that"):
        embed.embed(str(toy_run.path), again, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_student_has_seen_what_its_teachers_backbone_has(toy_run, toy_data, tmp_path):
    backbone, taught = tmp_path / "backbone", tmp_path / "taught"
    shutil.copytree(toy_run.path, backbone)
    more = np.array([1, 2], np.uint64)
    seen.write(backbone, seen.of(toy_run), more)
    embed.embed(str(backbone), toy_data, taught)
    student = train.new_run("small_cnn", toy_data, tmp_path / "a", SETTINGS, teacher=str(taught))
    assert {*seen.of(student)} == {*seen.of(toy_run), *more}
    dev = manifest.read(toy_data).query("split == 'dev'")
    seen.write(taught, seen.digests(dev["sha256"][:1]))
    with pytest.raises(UserError, match=r"the backbone of --teacher .* trained on 1 pictures"):
        train.new_run("small_cnn", toy_data, tmp_path / "b", SETTINGS, teacher=str(taught))
    assert not (tmp_path / "b").exists()


def test_an_ensemble_has_seen_what_its_members_have(toy_run, tmp_path):
    shutil.copytree(toy_run.path, tmp_path / "other")
    more = np.array([1, 2], np.uint64)
    seen.write(tmp_path / "other", more)
    made = ensemble.ensemble([toy_run, run.load(tmp_path / "other")], tmp_path / "both")
    assert {*seen.of(made)} == {*seen.of(toy_run), *more}


def test_a_damaged_file_is_told(toy_run, tmp_path):
    shutil.copytree(toy_run.path, tmp_path / "run")
    (tmp_path / "run/seen.npy").write_bytes(b"x")
    with pytest.raises(UserError, match="seen.npy.*copy the folder again"):
        seen.of(run.load(tmp_path / "run"))
    (tmp_path / "run/seen.npy").unlink()
    assert {*seen.of(run.load(tmp_path / "run"))} == {*seen.of(toy_run)}  # from its data set
