"""Batches and augmentation against numpy."""

import shutil

import numpy as np
import pytest
from PIL import Image

from deepconnotation.backend import tf
from deepconnotation.console import UserError
from deepconnotation.data import augment, manifest, pipeline
from deepconnotation.data.augment import Augmentation


def test_split_holds_the_prepared_pictures(toy_data):
    part = pipeline.load(toy_data, "train")
    info = manifest.read_info(toy_data)
    assert part.images.dtype == np.uint8 and part.images.shape == (48, 16, 16, 3)
    for i in (0, 17, 47):
        row = part.table.iloc[i]
        assert info.classes[part.labels[i]] == row["label"]
        with Image.open(toy_data / row["file"]) as image:
            assert (np.asarray(image.convert("RGB")) == part.images[i]).all()


def test_cache_follows_the_manifest_and_may_be_deleted(toy_source, tmp_path):
    from deepconnotation.data import prepare

    out = tmp_path / "data"
    prepare.prepare(toy_source, out, 16, fractions="60/20/20", workers=1)
    before = np.array(pipeline.load(out, "dev").images)
    table = manifest.read(out)
    manifest.move_to(out, table.assign(split="train"), manifest.read_info(out))
    assert len(pipeline.load(out, "train").images) == 80
    with pytest.raises(UserError, match="no pictures in split 'dev'"):
        pipeline.load(out, "dev")
    manifest.move_to(out, table.assign(file=manifest.read(out)["file"]), manifest.read_info(out))
    assert (pipeline.load(out, "dev").images == before).all()
    (out / table["file"][0]).write_bytes(b"")
    (out / ".cache").rename(tmp_path / "gone")
    with pytest.raises(UserError, match="empty.*prepare the data set again"):
        for name in manifest.SPLITS:
            pipeline.load(out, name)


def test_the_room_of_an_array_is_taken_before_it_is_written_to(toy_data, tmp_path, monkeypatch):
    """A full disk would kill the process in the midst of it."""
    path = tmp_path / "rows.npy"
    array = pipeline.new_array(path, np.float32, (1000, 1000))
    assert path.stat().st_blocks * 512 >= 4_000_000 and (np.load(path) == array).all()

    def full(*_):
        raise OSError(28, "No space left on device")

    data = shutil.copytree(toy_data, tmp_path / "data", ignore=lambda *_: [".cache"])
    monkeypatch.setattr(pipeline.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/train.npy'"):
        pipeline.load(data, "train")
    assert not [p for p in (data / ".cache").rglob("*") if p.is_file()]


def test_a_data_set_that_may_only_be_read(elsewhere, tmp_path, monkeypatch):
    """As on a shared disk; to root nothing is forbidden, so the answer to that is given here."""
    expected = np.array(pipeline.load(elsewhere, "dev").images)
    (elsewhere / ".cache").rename(tmp_path / "gone")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(pipeline.os, "access", lambda path, mode: path != elsewhere)
    assert (pipeline.load(elsewhere, "dev").images == expected).all()
    assert not (elsewhere / ".cache").exists()
    (packed,) = (tmp_path / "own").rglob("dev.npy")
    assert (np.load(packed) == expected).all()


def test_last_partial_batch_is_kept_and_order_is_the_tables(toy_data):
    part = pipeline.load(toy_data, "train")
    found = list(pipeline.batches(part, 20))
    assert [len(x) for x, _ in found] == [20, 20, 8]
    assert (np.concatenate([x for x, _ in found]) == part.images).all()
    assert (np.concatenate([y for _, y in found]) == part.labels).all()


def test_shuffles_differ_by_epoch_and_repeat_with_the_seed(toy_data):
    labels = np.zeros(48, int)
    orders = [pipeline.epoch_order(labels, *draw) for draw in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(o) == list(range(48)) for o in orders)
    assert not (orders[0] == orders[1]).all() and not (orders[0] == orders[2]).all()
    assert (orders[0] == pipeline.epoch_order(labels, 0, 0)).all()
    part = pipeline.load(toy_data, "train")
    labels = np.concatenate([y for _, y in pipeline.batches(part, 20, orders[0])])
    assert (labels == part.labels[orders[0]]).all()
    rest = np.concatenate([y for _, y in pipeline.batches(part, 20, orders[0], skip=1)])
    assert (rest == labels[20:]).all()


def test_balanced_epochs_draw_rare_classes_more_often_up_to_a_ceiling():
    labels = np.repeat([0, 1, 2], [80, 16, 4])
    even = np.bincount(labels[pipeline.epoch_order(labels, 0, 0, ceiling=100)])
    assert even.tolist() == [33, 34, 33]
    # At most three times their own share before all are made to sum to 100: 80, 48, 12 of 140.
    order = pipeline.epoch_order(labels, 0, 0, ceiling=3)
    assert np.bincount(labels[order]).tolist() == [57, 34, 9]
    for label in (1, 2):  # no picture again before all of its class were drawn
        times = np.bincount(order)[labels == label]
        assert times.max() - times.min() <= 1
    assert (order == pipeline.epoch_order(labels, 0, 0, ceiling=3)).all()
    assert (order != pipeline.epoch_order(labels, 0, 1, ceiling=3)).any()



SEED = tf.constant([0, 5], tf.int64)


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 12, 16, 3), np.uint8)


def test_no_augmentation_changes_nothing():
    out = augment.apply(images(), Augmentation(), SEED)
    assert out.dtype == tf.float32
    assert (out.numpy() == images()).all()


def test_flip_mirrors_about_half():
    out = augment.apply(images(), Augmentation(flip=True), SEED).numpy()
    same = np.abs(out - images()).max(axis=(1, 2, 3)) < 0.01
    mirrored = np.abs(out - images()[:, :, ::-1]).max(axis=(1, 2, 3)) < 0.01
    assert (same ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_augmentation_repeats_with_its_seed_and_stays_in_range():
    everything = Augmentation(True, 0.1, 20, 0.2, 0.3, 0.3)
    out = augment.apply(images(), everything, SEED).numpy()
    assert (out == augment.apply(images(), everything, SEED).numpy()).all()
    assert (out != augment.apply(images(), everything, SEED + 1).numpy()).any()
    assert out.shape == images().shape and out.min() >= 0 and out.max() <= 255


def test_rotation_keeps_the_centre_and_its_angle():
    """A vertical line through the centre, turned by at most 30 degrees, by its principal axis."""
    line = np.zeros((50, 33, 33, 3), np.uint8)
    line[:, :, 16] = 255
    out = augment.apply(line, Augmentation(rotate=30), SEED).numpy()[..., 0]
    assert (out[:, 16, 16] > 200).all()
    y, x = np.mgrid[-16:17, -16:17]
    inside = (x**2 + y**2 <= 14**2) * out
    slope = (inside * x * y).sum((1, 2)) / (inside * y * y).sum((1, 2))
    angles = np.degrees(np.arctan(slope))
    assert np.abs(angles).max() < 32 and np.ptp(angles) > 30


def test_cutout_blanks_a_square():
    white = np.full((40, 20, 20, 3), 255, np.uint8)
    out = augment.apply(white, Augmentation(cutout=0.5), SEED).numpy()
    blank = (out == 127.5).all(axis=-1).sum(axis=(1, 2))
    assert blank.max() <= 11 * 11 and blank.min() >= 5 * 5


def test_cutmix_mixes_targets_by_the_area_of_the_box():
    planes = np.arange(1, 9, dtype=np.float32)[:, None, None, None] * np.ones((8, 10, 10, 3))
    mixed, targets = augment.cutmix(tf.constant(planes, tf.float32), tf.eye(8), 1.0, SEED)
    for i in range(8):
        values, counts = np.unique(np.asarray(mixed)[i, :, :, 0], return_counts=True)
        assert len(values) <= 2
        for value, count in zip(values, counts, strict=True):
            assert float(targets[i, int(value) - 1]) == pytest.approx(count / 100, abs=1e-6)
    assert np.allclose(np.sum(targets, axis=1), 1) and (np.diag(targets) < 1).any()
    again, _ = augment.cutmix(tf.constant(planes, tf.float32), tf.eye(8), 1.0, SEED)
    assert (again == mixed).numpy().all()


def test_mixup_blends_pictures_and_targets_alike():
    x = np.eye(8, dtype=np.float32)[:, :, None, None] * np.ones((1, 1, 4, 3), np.float32)
    mixed, targets = augment.mixup(tf.constant(x), tf.eye(8), 0.4, SEED)
    # Picture i is one-hot along its rows, so its pixels must equal its target.
    assert np.allclose(mixed[:, :, 0, 0], targets, atol=1e-6)
    assert np.allclose(np.sum(targets, axis=1), 1, atol=1e-6)
    assert (np.diag(targets) >= 0.5).all() and (np.diag(targets) < 1).any()
