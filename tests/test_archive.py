"""Archives that nobody vouches for."""

import io
import random
import stat
import tarfile
import zipfile

import pictures
import pytest
from PIL import Image
from tools import tool

from deepconnotation.console import UserError
from deepconnotation.data import archive, manifest
from deepconnotation.data.sources import toy
from deepconnotation.emotions import FI


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_what_is_packed_comes_out(tmp_path, ending):
    members = {"top/awe/1.jpg": b"one", "top/awe/sub/2.jpg": b"two", "top/fear/3.jpg": b""}
    path = tmp_path / f"a.{ending}"
    if ending == "zip":
        make_zip(path, members)
    else:
        kind = ending.rpartition(".")[2]
        make_tar(path, members, {"tar": "w", "tgz": "w:gz"}.get(kind, f"w:{kind}"))
    inside = archive.unpack(path, tmp_path / "out")
    assert inside == tmp_path / "out/top"  # a single folder at the top is the data's
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
             for p in inside.rglob("*") if p.is_file()}  # fmt: skip
    assert found == members
    path.unlink()
    assert archive.unpack(path, tmp_path / "out") == inside  # once is enough


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg", "a/.."],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_paths_that_lead_out_are_refused(tmp_path, make, name):
    ending = "zip" if make is make_zip else "tgz"
    path = make(tmp_path / f"a.{ending}", {"awe/1.jpg": b"x", name: b"x"})
    with pytest.raises(UserError, match="leads out of the folder"):
        archive.unpack(path, tmp_path / "out/originals")
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.rglob("1.jpg"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("awe/1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(UserError, match="'awe/1.jpg' is a link or a device"):
        archive.unpack(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("awe/1.jpg")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="is a link or a device"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bombs_are_refused_before_they_fill_the_disk(tmp_path, make, monkeypatch):
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 1_000_000)
    ending = "zip" if make is make_zip else "tgz"
    path = make(tmp_path / f"a.{ending}", {"awe/1.bmp": bytes(50_000_000)})
    with pytest.raises(UserError, match="decompression bomb"):
        archive.unpack(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_archives_are_one_error(tmp_path):
    noise = random.Random(0).randbytes(20_000)
    whole = make_zip(tmp_path / "whole.zip", {"awe/1.jpg": noise, "awe/2.jpg": noise}).read_bytes()
    packed = make_tar(tmp_path / "whole.tgz", {"awe/1.jpg": noise}).read_bytes()
    for name, data in {
        "empty.zip": b"", "cut.zip": whole[:15_000], "words.zip": b"words",
        "cut.tgz": packed[:9000],
        "flipped.zip": whole[:500] + b"\0" * 50 + whole[550:], "words.tar.xz": b"words",
        "flipped.tgz": packed[:5000] + b"\0" * 50 + packed[5050:],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name}: cannot be unpacked"):
            archive.unpack(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_an_archive_to_a_prepared_data_set(tmp_path):
    members = {}
    for emotion in FI.classes:
        for i in range(10):
            data = pictures.encode(Image.fromarray(toy.draw(emotion, i, 32)), "PNG")
            members[f"mine/{emotion}/{emotion}{i}.png"] = data
    make_zip(tmp_path / "mine.zip", members)
    command = ["fetch_and_resize.py", tmp_path / "mine.zip", "--size", 16]
    done = tool(*command, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(manifest.read(tmp_path / "out")) == 80
    make_zip(tmp_path / "bad.zip", {"../x/1.png": b"x"})
    done = tool("fetch_and_resize.py", tmp_path / "bad.zip", "--out", tmp_path / "bad")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
