"""200 malformed lists and archives: a one-line error that names the row, or counted rejections."""

import csv
import io
import tarfile
import zipfile

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepconnotation.console import UserError
from deepconnotation.data import archive, labels
from deepconnotation.data.sources import affectnet, facial_expressions, fi, folder, urls
from deepconnotation.emotions import FI

COUNT = settings(
    max_examples=50, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

GOOD = {
    "fi": ["awe", "http://h/1.jpg", "1", "4"],
    "urls": ["http://h/1.jpg", "awe"],
    "affectnet": ["a.jpg", "0", "0", "9", "9", "1;2", "3", ".1", "-2"],
    "faces": ["u", "a.jpg", "joy"],
}
HEADERS = {
    "fi": None, "urls": ["url", "label"], "affectnet": affectnet.COLUMNS,
    "faces": facial_expressions.COLUMNS,
}  # fmt: skip
CELL = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "NaN", "-1", "1e999", "\0", '"', "\n", "💥", "6", "awe"]),
)


@st.composite
def damaged_csv(draw, kind):
    """Good rows among which cells, rows or bytes are broken."""
    rows = [list(GOOD[kind]) for _ in range(draw(st.integers(0, 5)))]
    broken = list(GOOD[kind])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(broken) - 1))
        broken[place] = draw(CELL)
    if draw(st.booleans()):
        broken = broken[: draw(st.integers(0, len(broken)))]
    rows.insert(draw(st.integers(0, len(rows))), broken)
    stream = io.StringIO()
    writer = csv.writer(stream)
    if HEADERS[kind] and draw(st.integers(0, 9)):
        writer.writerow(HEADERS[kind])
    writer.writerows(rows)
    data = bytearray(stream.getvalue().encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 4)) == 0 else data)


def read_all(kind, path):
    if kind == "fi":
        return fi.read([path], vote_order="disagree-agree", min_agree=3)
    if kind == "urls":
        return urls.read(path, FI)
    if kind == "affectnet":
        return affectnet.read(path.parent)
    return facial_expressions.read(path.parent)


NAMES = {"fi": "fi.csv", "urls": "u.csv", "affectnet": "training.csv", "faces": "legend.csv"}


@COUNT
@given(data=st.data(), kind=st.sampled_from(sorted(GOOD)))
def test_lists(tmp_path, data, kind):
    (tmp_path / "images").mkdir(exist_ok=True)
    path = tmp_path / NAMES[kind]
    path.write_bytes(data.draw(damaged_csv(kind)))
    try:
        source = read_all(kind, path)
    except UserError as error:
        assert "\n" not in str(error) and NAMES[kind] in str(error)
        assert " row " in str(error) or "no rows" in str(error) or "majorities" in str(error)
        return
    reasons = {r.reason for r in source.rejections}
    assert all(i.label in source.emotions.classes for i in source.items)
    assert reasons <= {"repeated_row", "conflicting_labels", "too_few_votes", "dropped_class",
                       "missing_file", "no_label"}  # fmt: skip


@COUNT
@given(data=st.binary(max_size=400))
def test_labels_json_of_any_bytes(tmp_path, data):
    start = b'{"trainX": ["a"], "trainY": [0], "devX": [], "devY": [], "testX": [], "testY": []}'
    for text in (data, start[: len(data)] + data, start[:9] + data + start[9:]):
        path = tmp_path / "labels.json"
        path.write_bytes(text)
        try:
            labels.read(path, FI.classes)
        except UserError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)


KINDS = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE]


@st.composite
def damaged_archive(draw):
    """A small zip or tar with odd member names, then bytes changed or cut."""
    kind, stream = draw(st.sampled_from(["zip", "tar", "tgz"])), io.BytesIO()
    names = draw(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=3, unique=True))
    body = draw(st.binary(max_size=300))
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
            for name in names:
                file.writestr(name.encode("utf-8", "replace").decode(), body)
    else:
        with tarfile.open(fileobj=stream, mode="w" if kind == "tar" else "w:gz") as file:
            for name in names:
                info = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
                info.size = len(body)
                info.type = draw(
                    st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])
                )
                file.addfile(info, io.BytesIO(body))
    data = bytearray(stream.getvalue())
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(data))) if draw(st.booleans()) else len(data)
    return kind, bytes(data[:cut])


@COUNT
@given(packed=damaged_archive(), number=st.integers(0, 2**60))
def test_archives(tmp_path, packed, number):
    kind, data = packed
    path, out = tmp_path / f"a.{kind}", tmp_path / f"out{number}"
    path.write_bytes(data)
    try:
        inside = archive.unpack(path, out)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        assert not out.exists()
    except OSError as error:  # a name that the file system refuses: one line of run_command
        assert error.strerror
        assert not out.exists()
    else:
        assert all(p.resolve().is_relative_to(out.resolve()) for p in out.rglob("*"))
        try:
            folder.read(inside, FI)
        except UserError as error:
            assert "\n" not in str(error)


@COUNT
@given(data=st.binary(max_size=300), keep=st.integers(0, 120))
def test_arrays_of_affectnet(tmp_path, data, keep):
    notes, images = tmp_path / "train_set/annotations", tmp_path / "train_set/images"
    for path in (notes, images):
        path.mkdir(parents=True, exist_ok=True)
    (images / "1.jpg").write_bytes(b"x")
    good = io.BytesIO()
    np.save(good, np.array("3"))
    (notes / "1_exp.npy").write_bytes(good.getvalue()[:keep] + data)
    try:
        source = affectnet.read(tmp_path)
        assert len(source.items) + len(source.rejections) == 1
    except UserError as error:
        assert "1_exp.npy" in str(error) and "\n" not in str(error)
