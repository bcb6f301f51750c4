"""Packed pictures come out as they went in."""

import pytest
from tools import files_of_at_most

from deepconnotation.data import pack


def test_packed_and_unpacked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {"a.jpg": b"one", "b.jpg": b"", "c.jpg": bytes(range(256)) * 300}
    names = pack.write("data@2+1.pack", list(contents.values()))  # a name that looks packed itself
    assert names[0] == "data@2+1.pack@0+3" and all(map(pack.is_packed, names))
    assert [pack.read(name) for name in names] == list(contents.values())
    (tmp_path / "plain.jpg").write_bytes(b"plain")
    assert pack.read("plain.jpg") == b"plain" and not pack.is_packed("plain.jpg")
    for _ in range(2):  # harmless to repeat, also over a file that a kill cut short
        (tmp_path / "c.jpg").write_bytes(b"longer than before" * 9000)
        pack.unpack(tmp_path, list(zip(names, contents, strict=True)))
        assert {p: (tmp_path / p).read_bytes() for p in contents} == contents
    (tmp_path / "data@2+1.pack").unlink()
    with pytest.raises(FileNotFoundError):
        pack.unpack(tmp_path, [(names[0], "a.jpg")])


def test_what_a_full_disk_cuts_short_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = pack.write("pack", [bytes(5000)])
    with files_of_at_most(3000):
        with pytest.raises(OSError, match="too large: 'other'"):
            pack.write("other", [bytes(2000), bytes(2000)])
        with pytest.raises(OSError, match="too large: 'folder/a.jpg'"):
            (tmp_path / "folder").mkdir()
            (tmp_path / "pack").rename("folder/pack")
            pack.unpack("folder", [(names[0], "a.jpg")])
    pack.unpack("folder", [(names[0], "a.jpg")])
    assert (tmp_path / "folder/a.jpg").read_bytes() == bytes(5000)
