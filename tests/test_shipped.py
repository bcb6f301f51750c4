"""The models in snapshots/ answer straight after a clone."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_sample_image
from tools import command

from deepconnotation import run, seen, train
from deepconnotation.emotions import FER2013, FI
from deepconnotation.predict import predict
from deepconnotation.settings import Settings

SNAPSHOTS = Path(__file__).resolve().parents[1] / "snapshots"
SHIPPED = ("evoked", "expressions", "fer2013")


@cache
def shipped(name: str) -> run.Run:
    """One of them, its model loaded once."""
    return run.load(SNAPSHOTS / name)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_small_and_has_a_card(name):
    folder = SNAPSHOTS / name
    assert (folder / "model.keras").stat().st_size <= 6e6
    figures = json.loads((folder / "metrics.json").read_text())
    card = (folder / "card.md").read_text()
    assert f"| accuracy | {figures['accuracy']['value']:.3f} |" in card and "## Misuse" in card
    assert not figures["drawn"] and figures["split"] == "test"
    found = shipped(name)
    assert found.config["model_sha256"] == run.file_sha256(folder / "model.keras")
    trained_on = sum(found.config["data"]["counts"]["train"].values())
    assert len(seen.of(found)) >= trained_on  # more where its start has learned, too
    kept = {"model.keras", "run.json", "metrics.json", "card.md", "seen.npy"}
    assert kept <= {path.name for path in folder.iterdir()}  # and no page: it holds pictures


@pytest.mark.parametrize("name", SHIPPED[:1])  # of one architecture
def test_a_training_can_begin_from_it(name, toy_data, tmp_path):
    settings = Settings(precision="float32")
    begun = train.new_run("efficientnet_lite0", toy_data, tmp_path / "on", settings,
                          weights=str(SNAPSHOTS / name))  # fmt: skip
    nets = train.make_trainer(begun, settings).model, shipped(name).model
    kernels = [net.get_layer("stage7_block1_project").kernel.numpy() for net in nets]
    assert (kernels[0] == kernels[1]).all()


def test_it_answers_on_a_photograph(tmp_path):
    from PIL import Image

    photo = tmp_path / "china.jpg"
    Image.fromarray(load_sample_image("china.jpg")).save(photo)
    done = command("predict", SNAPSHOTS / "evoked", photo, "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    # A sunlit palace: something pleasant.
    assert sum(row["probabilities"][c] for c in ("awe", "contentment", "amusement")) > 0.6


def test_it_knows_the_data_set_it_learned_from(real_data):
    """Most of these were trained on; that they are known says that pixels and weights fit."""
    found, right = shipped("evoked"), 0
    for label in FI.classes:
        paths = sorted((real_data / "fi/images" / label).iterdir())[100:900:160]
        right += sum(row["label"] == label for row in predict(found, paths))
    assert right / 40 > 0.5


@pytest.fixture
def public_faces(real_data):
    """Label and files of each of FER2013's seven expressions in PublicTest."""
    folders = sorted((real_data / "fer2013/PublicTest").iterdir())
    return {FER2013.canonical(each.name): sorted(each.iterdir()) for each in folders}


def right_answers(found: run.Run, faces: dict[str, list[Path]]) -> int:
    return sum(row["label"] == label for label, paths in faces.items()
               for row in predict(found, paths))  # fmt: skip


def test_it_knows_faces_of_another_part(public_faces):
    """The model learned from FER2013's training part, which has copies of some, and other faces."""
    faces = {label: paths[:50:10] for label, paths in public_faces.items()}
    assert right_answers(shipped("expressions"), faces) / 35 > 0.4


def test_it_is_better_than_chance_on_faces_that_it_has_not_seen(public_faces):
    found = shipped("expressions")
    faces = {}
    for label, paths in public_faces.items():
        known = np.isin(seen.digests(map(run.file_sha256, paths)), seen.of(found))
        faces[label] = [path for path, copy in zip(paths, known, strict=True) if not copy][:20]
    assert right_answers(found, faces) / 140 > 2 / 7  # twice chance; .39 on 2026-11-28


def test_the_model_of_fer2013_has_seen_neither_of_its_held_out_parts(real_data, public_faces):
    found = shipped("fer2013")
    for part in ("PublicTest", "PrivateTest"):
        files = sorted((real_data / "fer2013" / part).glob("*/*"))
        assert len(files) == 3589
        assert not np.isin(seen.digests(map(run.file_sha256, files)), seen.of(found)).any()
    faces = {label: paths[:20] for label, paths in public_faces.items()}
    assert right_answers(found, faces) / 140 > 4 / 7  # balanced accuracy .63 on all of PublicTest
