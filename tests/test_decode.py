"""Pictures of every kind, against the colours they were drawn with and Pillow's full decode."""

import csv
import random
import struct

import numpy as np
import pictures
import pytest
from PIL import Image

from deepconnotation.data.decode import REASONS, Rejected, decode, fitted
from deepconnotation.data.files import is_clutter


def quarter_colours(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return pixels[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)


def wanted_colours(name: str, mode: str) -> np.ndarray:
    """What `quarter_colours` should find in one of `pictures.files`."""
    colours = pictures.QUARTERS.astype(int)
    if mode in ("L", "I;16", "I", "F", "LA"):
        colours = (colours @ [0.299, 0.587, 0.114])[..., None] * np.ones(3)
    if mode == "F":  # floats have no range of their own: the darkest becomes black
        colours = (colours - colours.min()) * 255 / (colours.max() - colours.min())
    if "clear" in name or name in ("rgba.png", "grey_alpha.png"):
        colours = colours.copy()
        colours[1, 1] = 255  # transparent lies on white
    return colours


@pytest.mark.parametrize("name", pictures.files())
def test_each_kind(name):
    data, expected = pictures.files()[name]
    if expected != "ok":
        with pytest.raises(Rejected) as refused:
            decode(data, (32, 32))
        assert refused.value.reason == expected
        assert str(refused.value) == f"{expected}: {refused.value.detail}"
        return
    picture = decode(data)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape == (32, 64, 3) == (picture.height, picture.width, 3)
    if name == "one_bit.png":  # dithered: no quarter has a colour of its own
        assert set(np.unique(picture.pixels)) == {0, 255}
        return
    found = quarter_colours(picture.pixels)
    assert np.abs(found - wanted_colours(name, picture.mode)).max() <= 12


#: How a form keeps colours what they are.
TRUE = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
#: What is seen of quarters stored as a b / c d, drawn by hand from the EXIF standard's table.
SEEN = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac"}


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = pictures.encode(pictures.quarters(640, 320), form, exif=exif, **TRUE.get(form, {}))
    colours = pictures.QUARTERS.reshape(4, 3)
    wanted = colours[["abcd".index(c) for c in SEEN[orientation]]].reshape(2, 2, 3)
    for size in (None, (16, 24)):  # the small one from a JPEG read at a part of its size
        picture = decode(data, size)
        assert (picture.width, picture.height) == ((320, 640) if orientation > 4 else (640, 320))
        assert picture.pixels.shape[:2] == (size or (picture.height, picture.width))
        assert np.abs(quarter_colours(picture.pixels) - wanted).max() <= 12


@pytest.mark.parametrize("turns", range(4))
def test_a_phones_heic_is_turned_once(turns):
    """Phones write the rotation twice: as irot (counterclockwise), which counts, and in EXIF."""
    heif = pytest.importorskip("pillow_heif", reason="the extra [heic] is not installed")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = {0: 1, 1: 8, 2: 3, 3: 6}[turns]
    stored = Image.fromarray(np.rot90(np.asarray(pictures.quarters(640, 320)), -turns).copy())
    data = pictures.encode(stored, "HEIF", exif=exif)
    # libheif cannot be asked for an irot here: it takes the place of pixi, the last property.
    at = data.index(b"pixi")
    data = data[:at] + b"irot" + bytes([turns]) + data[at + 5 :]
    for size in (None, (16, 24)):
        picture = decode(data, size)
        assert (picture.width, picture.height) == (640, 320)
        assert np.abs(quarter_colours(picture.pixels) - pictures.QUARTERS).max() <= 12


@pytest.mark.parametrize(
    "kind, count, value",
    [(3, 1, b"\x63\0\0\0"), (3, 1, b"\x09\0\0\0"), (3, 1, bytes(4)), (3, 0, b"\6\0\0\0"),
     (3, 2**31, b"\6\0\0\0"), (2, 2, b"6\0\0\0"), (1, 1, b"\6\0\0\0"), (5, 1, b"\xff\0\0\0"),
     (12, 1, bytes(4)), (99, 1, b"\6\0\0\0")],
)  # fmt: skip
def test_wrong_orientation_tag_does_not_cost_the_picture(kind, count, value):
    tag = struct.pack("<HHI", 0x0112, kind, count) + value
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + tag + bytes(4)
    picture = decode(pictures.jpeg(exif=exif))
    assert (picture.width, picture.height) == (64, 32)
    assert np.abs(quarter_colours(picture.pixels) - pictures.QUARTERS).max() <= 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0no TIFF", b"Exif\0\0II*\0\x08\0\0\0\x05\0", b"Exif\0\0"]
)
def test_damaged_exif_does_not_cost_the_picture(form, exif):
    picture = decode(pictures.encode(pictures.quarters(), form, exif=exif, **TRUE.get(form, {})))
    assert np.abs(quarter_colours(picture.pixels) - pictures.QUARTERS).max() <= 12


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [((3, 5, 20, 30), (5, 30), (3, 20)), ((-4, -9, 10, 12), (0, 12), (0, 10)),
     ((32, 24, 99, 99), (24, 32), (32, 40)), ((0, 0, 40, 32), (0, 32), (0, 40))],
)  # fmt: skip
def test_a_box_is_cut_from_what_lies_on_the_picture(box, rows, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    data = pictures.encode(Image.fromarray(pixels), "PNG")
    wanted = pixels[slice(*rows), slice(*columns)]
    assert (decode(data, box=box).pixels == wanted).all()
    resized = Image.fromarray(wanted).resize((9, 7), Image.Resampling.LANCZOS)
    assert (decode(data, (7, 9), box=box).pixels == np.asarray(resized)).all()


@pytest.mark.parametrize("box", [(0, 0, 7, 30), (0, 0, 30, 7), (-1, 0, 7, 30), (33, 0, 99, 30),
                                 (0, 25, 30, 99), (20, 20, 10, 10)])  # fmt: skip
def test_a_box_that_hardly_lies_on_the_picture_is_refused(box):
    data = pictures.encode(Image.new("RGB", (40, 32)), "PNG")
    with pytest.raises(Rejected, match="bad_box: .* of 40x32, less than 8 pixels"):
        decode(data, box=box)


def test_the_smallest_picture_has_eight_pixels():
    assert decode(pictures.encode(Image.new("RGB", (8, 8)), "PNG")).pixels.shape == (8, 8, 3)
    for size in ((7, 100), (100, 7)):
        with pytest.raises(Rejected, match="too_small: .*thinner than 8 pixels"):
            decode(pictures.encode(Image.new("RGB", size), "PNG"))


def test_16_bits_of_grey_become_the_nearest_8():
    wide = (np.arange(256, dtype=np.uint32) * 257).repeat(8).reshape(32, 64)
    for off in (-128, 0, 128):  # 257 apart: half of it is still the same grey
        stored = np.clip(wide.astype(int) + off, 0, 65_535).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in stored)
        found = decode(pictures.png(64, 32, 16, 0, rows)).pixels
        assert (found == (wide // 257)[..., None]).all()


def test_32_bits_of_grey_fill_the_range():
    stored = (np.arange(0, 256) * 2**23).astype(np.int32).repeat(2).reshape(16, 32)
    found = decode(pictures.encode(Image.fromarray(stored), "TIFF")).pixels
    assert (found == np.arange(256).repeat(2).reshape(16, 32, 1)).all()


def test_floats_without_a_number_count_as_zero():
    stored = np.linspace(0, 255, 512, dtype=np.float32).reshape(16, 32)
    wanted = np.rint(stored)
    stored[0, 1], stored[1, 2], stored[2, 3] = np.nan, np.inf, -np.inf
    wanted[0, 1] = wanted[1, 2] = wanted[2, 3] = 0
    found = decode(pictures.encode(Image.fromarray(stored), "TIFF")).pixels
    assert (found == wanted[..., None]).all()


def test_a_frame_is_resized_as_a_picture_is():
    frame = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8))
    wanted = decode(pictures.encode(frame, "PNG"), (12, 20)).pixels
    assert (fitted(frame, (12, 20)) == wanted).all()


def test_a_whole_webp_that_cannot_be_opened_is_damaged():
    data = bytearray(pictures.encode(pictures.quarters(), "WEBP", lossless=True))
    data[12:16] = b"XXXX"  # the kind of its only chunk
    for cut, reason in ((len(data), "damaged"), (len(data) - 1, "truncated")):
        with pytest.raises(Rejected, match=reason):
            decode(bytes(data[:cut]))


def probes(row: dict) -> dict[str, list[int]]:
    pairs = (p.split("=") for p in row["probes"].split(";"))
    return {k: [int(v) for v in value.split(",")] for k, value in pairs}


#: Words in the names of the drawn files -> the refusal they must get.
REFUSALS = {
    "heic": "heic", "html": "html", "gzip": "gzip", "svg": "svg", "truncated": "truncated",
    "zero": "empty", "soi": "truncated", "bomb": "too_many_pixels",
}  # fmt: skip


def test_bad_pictures_as_expected(real_data):
    if not (real_data / "bad_pictures/expectations.csv").is_file():
        pytest.skip(f"no bad_pictures/expectations.csv in {real_data}")
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
        except Rejected as refused:
            assert row["expected"] in ("reject", "any"), row["file"]
            if row["expected"] == "reject":
                word = next(word for word in REFUSALS if word in row["file"])
                assert refused.reason == REFUSALS[word], row["file"]
            continue
        assert row["expected"] in ("ok", "any"), row["file"]
        assert (picture.width, picture.height) == (int(row["width"]), int(row["height"]))
        if row["probes"]:
            wanted = probes(row)
            tolerance = wanted.pop("tol")[0]
            if row["file"] in ("rgba.png", "la.png"):
                wanted["br"] = [255, 255, 255]  # transparent lies on white
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


@pytest.mark.parametrize("shape", [(9, 100), (33, 100), (100, 49), (65, 400), (17, 200)])
@pytest.mark.parametrize("target", [(1, 1), (2, 2), (3, 3), (4, 5)])
def test_scaled_decoding_to_a_few_pixels(shape, target):
    picture = decode(pictures.jpeg(photo_like(*shape)), target)
    full = Image.fromarray(decode(pictures.jpeg(photo_like(*shape))).pixels)
    full = np.asarray(full.resize(target[::-1], Image.Resampling.LANCZOS))
    assert np.abs(picture.pixels.astype(int) - full).mean() <= 4  # a few pixels average little


def test_scaled_decoding_keeps_cmyk_and_grey():
    for mode in ("CMYK", "L"):
        picture = decode(pictures.jpeg(pictures.quarters(640, 320).convert(mode)), (16, 32))
        assert picture.mode == mode
        found = quarter_colours(picture.pixels)
        assert np.abs(found - wanted_colours("", mode)).max() <= 12


def test_a_size_that_is_not_positive_is_the_callers_error():
    with pytest.raises(ValueError, match=r"Received: \(0, 32\)") as raised:
        decode(pictures.jpeg(), (0, 32))
    assert not isinstance(raised.value, Rejected)


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "DESKTOP.INI", "a.jpg.part", "b.tmp", "._a.jpg", ".hidden"]
)
def test_clutter(name):
    assert is_clutter(name)
    assert not is_clutter("a" + name.strip(".") + ".jpg")


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
            place = rng.randrange(min(len(data), rng.choice((60, 300, 10**6))))  # often the header
            data[place] = rng.choice((0, 1, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        size = rng.choice(((16, 16), (2, 3)))
        try:
            assert decode(bytes(data), size).pixels.shape == (*size, 3)
        except Rejected as refused:
            assert refused.reason in REASONS
            assert "\n" not in str(refused)
