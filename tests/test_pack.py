"""Packed pictures come out as they went in."""

import pytest

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
