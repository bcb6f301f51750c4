"""Pictures of every kind, against the colours they were drawn with and Pillow's full decode."""

import csv
import random

import numpy as np
import pictures
import pytest
from PIL import Image

from deepconnotation.data.decode import REASONS, Rejected, decode, is_clutter


def quarter_colours(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return pixels[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)


@pytest.mark.parametrize("name", pictures.files())
def test_each_kind(name):
    data, expected = pictures.files()[name]
    if expected != "ok":
        with pytest.raises(Rejected) as refused:
            decode(data, (32, 32))
        assert refused.value.reason == expected
        assert refused.value.reason in REASONS
        return
    picture = decode(data)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape == (32, 64, 3) == (picture.height, picture.width, 3)
    colours = quarter_colours(picture.pixels)
    wanted = pictures.QUARTERS.astype(int)
    if picture.mode in ("L", "I;16", "I", "F", "LA"):
        wanted = (wanted @ [0.299, 0.587, 0.114])[..., None] * np.ones(3)
    if name in ("rgba.png", "grey_alpha.png"):
        wanted = wanted.copy()
        wanted[1, 1] = 255  # transparent lies on white
    if name == "float.tif":  # floats have no range of their own: the darkest becomes black
        wanted = (wanted - wanted.min()) * 255 / (wanted.max() - wanted.min())
    if name not in ("one_bit.png", "palette_clear.png"):
        assert np.abs(colours - wanted).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    picture = decode(pictures.oriented(orientation))
    assert (picture.width, picture.height) == (64, 32)
    assert np.abs(quarter_colours(picture.pixels) - pictures.QUARTERS).max() <= 12


def probes(row: dict) -> dict[str, list[int]]:
    pairs = (p.split("=") for p in row["probes"].split(";"))
    return {k: [int(v) for v in value.split(",")] for k, value in pairs}


def test_bad_pictures_as_expected(real_data):
    places = {"tl": (1, 1), "tr": (1, 3), "bl": (3, 1), "br": (3, 3)}
    with open(real_data / "bad_pictures/expectations.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 40
    for row in rows:
        if row["expected"] == "skip":
            assert is_clutter(row["file"]), row["file"]
            continue
        assert not is_clutter(row["file"]), row["file"]
        data = (real_data / "bad_pictures" / row["file"]).read_bytes()
        try:
            picture = decode(data)
        except Rejected:
            assert row["expected"] in ("reject", "any"), row["file"]
            continue
        assert row["expected"] in ("ok", "any"), row["file"]
        assert (picture.width, picture.height) == (int(row["width"]), int(row["height"]))
        if row["probes"]:
            wanted = probes(row)
            tolerance = wanted.pop("tol")[0]
            for corner, colour in wanted.items():
                y, x = (p * s // 4 for p, s in zip(places[corner], picture.pixels.shape[:2],
                                                   strict=True))  # fmt: skip
                assert np.abs(picture.pixels[y, x].astype(int) - colour).max() <= tolerance, row


def photo_like(width: int, height: int) -> Image.Image:
    """Smooth light, edges and fine grain, as in a photograph."""
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize((width, height))
    stripes = (np.arange(width) // 37 % 2 * 40)[None, :, None]
    grain = rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + stripes + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("shape", [(1600, 1200), (1111, 777), (900, 2000), (257, 129)])
@pytest.mark.parametrize("target", [(32, 32), (64, 64), (64, 48), (224, 224)])
def test_scaled_decoding_is_close_to_the_full_one(shape, target):
    data = pictures.jpeg(photo_like(*shape))
    picture = decode(data, target)
    full = Image.fromarray(decode(data).pixels).resize(target[::-1], Image.Resampling.LANCZOS)
    assert picture.pixels.shape == (*target, 3)
    assert (picture.width, picture.height) == shape
    assert np.abs(picture.pixels.astype(int) - np.asarray(full)).mean() <= 2


def test_grey_is_the_luma_three_times():
    picture = decode(pictures.encode(pictures.quarters(), "PNG"), grey=True)
    assert (picture.pixels[..., 0] == picture.pixels[..., 1]).all()
    assert (picture.pixels[..., 0] == picture.pixels[..., 2]).all()
    luma = pictures.QUARTERS @ [0.299, 0.587, 0.114]
    assert np.abs(quarter_colours(picture.pixels)[..., 0] - luma).max() <= 1


def test_any_bytes_give_a_picture_or_a_named_refusal():
    rng = random.Random(0)
    valid = [data for data, expected in pictures.files().values() if expected == "ok"]
    for _ in range(400):
        data = bytearray(rng.choice(valid))
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert decode(bytes(data), (16, 16)).pixels.shape == (16, 16, 3)
        except Rejected as refused:
            assert refused.reason in REASONS
            assert "\n" not in str(refused)
