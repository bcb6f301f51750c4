"""Batches and augmentation against numpy."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta, kstest
from tools import forget_home

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
    forget_home(monkeypatch)
    with pytest.raises(UserError, match="elsewhere: nothing can .* set XDG_CACHE_HOME"):
        pipeline.load(elsewhere, "dev")


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


def where_from(count: int, settings: Augmentation, height: int = 24, width: int = 40):
    """Of pictures that hold their pixels' places, (x, y) from the centre: where what is near the
    new centre was before, as maps (count, 2, 2) and places (count, 2), by least squares."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.broadcast_to(np.stack([x, y, x], axis=-1) * 4, (count, height, width, 3))
    out = augment.apply(places, settings, SEED).numpy()[..., :2] / 4
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    near = (abs(x - centre[0]) < 4) & (abs(y - centre[1]) < 4)  # nothing reflected from outside
    new = np.stack([x[near] - centre[0], y[near] - centre[1], np.ones(near.sum())], axis=1)
    old = out[:, near] - centre
    found = np.linalg.lstsq(new, old.transpose(1, 0, 2).reshape(len(new), -1), rcond=None)[0]
    assert np.allclose(new @ found, old.transpose(1, 0, 2).reshape(len(new), -1), atol=0.01)
    found = found.reshape(3, count, 2)
    return found[:2].transpose(1, 2, 0), found[2]


def spread_over(values, limit: float):
    """Whether numbers fill -limit to limit evenly."""
    return kstest(np.asarray(values) / limit, "uniform", (-1, 2)).pvalue > 0.001


def test_pictures_are_turned_zoomed_mirrored_and_shifted():
    """All at once is a map by an angle, a scale and a mirror, each in its bounds."""
    maps, places = where_from(300, Augmentation(True, 0.1, 30, 0.2))
    scale, mirror = np.sqrt(np.abs(np.linalg.det(maps))), np.sign(np.linalg.det(maps))
    assert spread_over(np.log(scale), 0.2) and 100 < (mirror > 0).sum() < 200
    turned = maps / scale[:, None, None] * np.stack([mirror, np.ones(300)], axis=1)[:, None]
    assert np.allclose(turned @ turned.transpose(0, 2, 1), np.eye(2), atol=0.01)
    angles = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert spread_over(angles, 30)
    assert spread_over(places[:, 0], 4.0) and spread_over(places[:, 1], 2.4)
    drawn = np.corrcoef([np.log(scale), mirror, angles, *places.T])
    assert np.abs(drawn - np.eye(5)).max() < 0.2  # each by itself


def test_contrast_and_brightness_by_a_factor_and_an_offset():
    middle = np.random.default_rng(0).integers(100, 150, (300, 6, 6, 3)).astype(np.uint8)
    out = augment.apply(middle, Augmentation(contrast=0.3), SEED).numpy().reshape(300, -1)
    before = middle.reshape(300, -1).astype(float)
    mean = before.mean(axis=1, keepdims=True)
    factor = ((out - out.mean(axis=1, keepdims=True)) * (before - mean)).sum(1) / (
        (before - mean) ** 2).sum(1)  # fmt: skip
    offset = out.mean(axis=1) - mean[:, 0]
    assert np.allclose(out, factor[:, None] * (before - mean) + mean + offset[:, None], atol=0.01)
    assert spread_over(factor - 1, 0.3) and spread_over(offset, 0.3 * 128)
    assert abs(np.corrcoef(factor, offset)[0, 1]) < 0.2


def covered(holes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each row and each column is met by one of the boxes."""
    return holes.any(axis=2).mean(axis=0), holes.any(axis=1).mean(axis=0)


def test_cutout_blanks_a_square():
    """Half the height wide, its centre anywhere: the first row is met from half its side away."""
    white = np.full((4000, 20, 24, 3), 255, np.uint8)
    out = augment.apply(white, Augmentation(cutout=0.5), SEED).numpy()
    blank = (out == 127.5).all(axis=-1)
    assert ((out == 255) | blank[..., None]).all()
    sides = blank.any(axis=2).sum(axis=1), blank.any(axis=1).sum(axis=1)
    assert (sides[0] * sides[1] == blank.sum(axis=(1, 2))).all()
    assert max(sides[0]) == max(sides[1]) == 10 and min(sides[0]) in (5, 6)
    for share, side in zip(covered(blank), (20, 24), strict=True):
        assert share[0] == pytest.approx(5.5 / side, abs=0.02)
        assert share[-1] == pytest.approx(5.5 / side, abs=0.02)


def test_cutmix_boxes_have_the_pictures_shape_and_lie_anywhere():
    """At a huge alpha each covers half of the area: .707 of both sides, cut at the edges."""
    planes = np.broadcast_to(np.arange(3000, dtype=np.float32)[:, None, None, None],
                             (3000, 20, 30, 1))  # fmt: skip
    mixed, _ = augment.cutmix(tf.constant(planes), tf.eye(3000), 1e6, SEED)
    box = (mixed.numpy() != planes)[..., 0]
    assert set(np.unique(box.any(axis=2).sum(axis=1))[-2:]) == {14, 15}
    assert set(np.unique(box.any(axis=1).sum(axis=1))[-2:]) == {21, 22}
    for share, side in zip(covered(box), (20, 30), strict=True):
        assert share[0] == pytest.approx(0.3536 + 0.5 / side, abs=0.03)
        assert share[-1] == pytest.approx(0.3536 + 0.5 / side, abs=0.03)


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


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_its_share_as_told(alpha):
    """The larger of s and 1 - s, where s is of Beta(alpha, alpha)."""
    x = tf.zeros((2000, 1, 1, 3))
    _, targets = augment.mixup(x, tf.eye(2000), alpha, SEED)
    drawn = kstest(np.diag(targets),  # but for the few that meet themselves
                   lambda s: beta.cdf(s, alpha, alpha) - beta.cdf(1 - s, alpha, alpha))  # fmt: skip
    assert drawn.statistic < 0.05
