"""Contact sheets: the right pictures, whole and undistorted, with what they are."""

import numpy as np
import pictures
import pytest
from PIL import Image
from tools import tool

from deepconnotation import inspect_images
from deepconnotation.console import UserError
from deepconnotation.data import manifest, sheet
from deepconnotation.data.download import path_of


def test_index_of_numbers_and_ranges():
    assert sheet.parse_index("3") == {3}
    assert sheet.parse_index("3,7,20:23") == {3, 7, 20, 21, 22}
    for wrong in ("a", "-1", "3:", "3-7", ""):
        with pytest.raises(UserError, match="--index"):
            sheet.parse_index(wrong)


def test_pictures_by_class_split_and_index(toy_data, tmp_path):
    table = manifest.read(toy_data)
    entries = sheet.taken(toy_data, "test", "awe", None)
    expected = table[(table["split"] == "test") & (table["label"] == "awe")]
    assert [e.name for e in entries] == expected["id"].tolist()
    assert [e.name for e in sheet.taken(toy_data, None, None, {0, 5})] == table["id"][
        [0, 5]
    ].tolist()
    command = ["inspect_images.py", toy_data, "--class", " Awe", "--limit", 7, "--columns", 3]
    done = tool(*command, "--out", tmp_path / "awe")
    assert done.returncode == 0, done.stderr
    assert "7 of 10 pictures" in done.stdout
    page = (tmp_path / "awe.html").read_text()
    assert page.count("data:image/jpeg") == 7 and "awe, " in page
    with Image.open(tmp_path / "awe.png") as image:
        columns, rows = 3, 3
        cell = sheet.TILE + sheet.GAP
        assert image.width == columns * cell + sheet.GAP
        assert image.height == rows * (cell + 2 * sheet.LINE) + sheet.GAP
        pixels = np.asarray(image.convert("RGB"))
    # The first tile is the first picture: 16 pixels enlarged to 112, so compare 16x16 means.
    first = sheet.taken(toy_data, None, "awe", None)[0]
    tile = pixels[sheet.GAP :, sheet.GAP :][: sheet.TILE, : sheet.TILE].astype(float)
    means = tile.reshape(16, 7, 16, 7, 3).mean(axis=(1, 3))
    with Image.open(first.path) as image:
        assert np.abs(means - np.asarray(image.convert("RGB"), float)).mean() < 8


def test_the_name_may_end_like_a_file_and_takes_nobodys_picture(toy_data, tmp_path, capsys):
    """Both files are written anew, but a picture that lies there without its page is the user's."""
    for name in ("awe", "awe.png", "awe.html"):
        inspect_images.main([str(toy_data), "--limit", "2", "--out", str(tmp_path / name)])
        assert f"{tmp_path}/awe.png, {tmp_path}/awe.html" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["awe.html", "awe.png"]
    own = tmp_path / "photo.png"
    own.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"--out .*photo.png is there .* another name"):
        inspect_images.main([str(toy_data), "--out", str(tmp_path / "photo")])
    assert own.read_bytes() == b"mine" and not (tmp_path / "photo.html").exists()


@pytest.mark.parametrize("turned", [False, True])
def test_wide_and_tall_pictures_stay_whole(tmp_path, turned):
    path = tmp_path / "wide.jpg"
    image = pictures.quarters(64, 32)
    path.write_bytes(pictures.jpeg(image.transpose(Image.Transpose.TRANSPOSE) if turned else image))
    tile = sheet.picture_of(sheet.Entry(0, "wide", "", path))
    assert tile.shape == (112, 112, 3)
    tile = tile.transpose(1, 0, 2) if turned else tile
    assert (tile[:28] == sheet.EMPTY).all() and (tile[-28:] == sheet.EMPTY).all()
    corners = tile[[32, 32, 78, 78], [4, 107, 4, 107]].astype(int)
    assert np.abs(corners - pictures.QUARTERS.reshape(4, 3)).max() <= 10


def test_what_cannot_be_shown_is_grey_with_the_reason(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    (tmp_path / "empty.jpg").write_bytes(b"")
    paths = (tmp_path / "broken.jpg", tmp_path / "empty.jpg", tmp_path / "gone.jpg", None)
    tiles = [sheet.picture_of(sheet.Entry(0, "x", "", path)) for path in paths]
    for tile in tiles:
        words = (tile != sheet.EMPTY).any(axis=2)
        assert 0 < words.mean() < 0.1 and words[40:72].sum() == words.sum()
    assert len({tile.tobytes() for tile in tiles}) == 3  # gone and not known: "not at hand"
    assert tiles[2].tobytes() == tiles[3].tobytes()


def test_tiles_stand_in_rows_and_their_words_below():
    entries = [sheet.Entry(k, f"folder/{'w' * 40}{k}.jpg", "awe", None) for k in range(5)]
    tiles = [np.full((sheet.TILE, sheet.TILE, 3), 20 * k, np.uint8) for k in range(5)]
    pixels = np.asarray(sheet.sheet(entries, tiles, 2))
    gap, tall = sheet.GAP, sheet.TILE + 2 * sheet.LINE + sheet.GAP
    assert pixels.shape == (3 * tall + gap, 2 * (sheet.TILE + gap) + gap, 3)
    words = (pixels != sheet.PAPER).any(axis=2)
    for k, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))):
        y, x = gap + row * tall, gap + column * (sheet.TILE + gap)
        assert (pixels[y : y + sheet.TILE, x : x + sheet.TILE] == 20 * k).all()
        words[y : y + sheet.TILE, x : x + sheet.TILE] = False
        below = words[y + sheet.TILE : y + sheet.TILE + 2 * sheet.LINE, x : x + sheet.TILE]
        index, name = below[: sheet.LINE], below[sheet.LINE :]
        assert 0 < np.flatnonzero(index.any(axis=0)).max() < sheet.TILE / 2  # "0 awe"
        # A long name is cut, by as little as it takes, and does not run into the next.
        assert sheet.TILE * 0.85 < np.flatnonzero(name.any(axis=0)).max()
        below[:] = False
    assert not words.any()


def test_what_was_not_taken_is_shown_with_its_reason(toy_source, tmp_path):
    source, out = tmp_path / "source", tmp_path / "data"
    for item in toy_source.items:
        (source / item.label).mkdir(parents=True, exist_ok=True)
        (source / item.source).write_bytes(item.path.read_bytes())
    (source / "awe/thin.png").write_bytes(pictures.files()["thin.png"][0])
    (source / "awe/copy.png").write_bytes((source / toy_source.items[2].source).read_bytes())
    assert tool("fetch_and_resize.py", source, "--size", 16, "--out", out).returncode == 0
    entries = sheet.rejected(out, "all", [source], None)
    assert {(e.name, e.words) for e in entries} >= {("awe/thin.png", "too_small")}
    assert all(e.path and e.path.is_file() for e in entries)
    done = tool("inspect_images.py", out, "--rejected", "too_small", "--originals", source,
                "--out", tmp_path / "sheet")  # fmt: skip
    assert done.returncode == 0 and "1 of 1 pictures" in done.stdout
    done = tool("inspect_images.py", out, "--rejected", "dust", "--out", tmp_path / "x")
    assert done.returncode == 2 and "too_small" in done.stderr and done.stderr.count("\n") == 1


def test_fetched_pictures_are_found_by_their_address(tmp_path):
    url = "http://h/1.jpg"
    path = path_of(tmp_path / "data-originals", url)
    path.parent.mkdir(parents=True)
    path.write_bytes(pictures.jpeg())
    (tmp_path / "data").mkdir()
    text = f"source,reason,detail,status,bytes,seconds\n{url},placeholder,x,200,9,0.1\n"
    (tmp_path / "data/rejected.csv").write_text(text)
    entry = sheet.rejected(tmp_path / "data", "placeholder", [tmp_path / "data-originals"], None)[0]
    assert entry.path == path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "joy"], "--class joy: expected one of amusement"),
        (["--index", "x"], "--index x"),
        (["--index", "5000"], "no picture fits"),
        (["--limit", "0"], "--limit: '0': expected a whole number from 1"),
        (["--rejected", "all", "--split", "test"], "--rejected: what was not taken"),
    ],
)
def test_bad_use_of_inspect(toy_data, tmp_path, arguments, message):
    done = tool("inspect_images.py", toy_data, *arguments, "--out", tmp_path / "x")
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_words_in_other_letters_are_not_boxes():
    tile = np.zeros((sheet.TILE, sheet.TILE, 3), np.uint8)
    one, other = (sheet.sheet([sheet.Entry(0, "0", word, None)], [tile], 1)
                  for word in ("страх", "стыдх"))  # fmt: skip
    assert one.tobytes() != other.tobytes()
