"""PyTorch checkpoints without PyTorch: what is read, and what is refused."""

import collections
import io
import os
import pickle

import numpy as np
import pytest

from deepconnotation.console import UserError
from deepconnotation.models import checkpoint

MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """Pickles as a call of a named function, as PyTorch's tensors and attackers' files do."""

    def __init__(self, function: str, *arguments):
        self.function, self.arguments = function, arguments


class Writer(pickle._Pickler):
    """Writes references to globals that are not installed here."""

    def persistent_id(self, thing):
        return thing[1:] if isinstance(thing, tuple) and thing[:1] == ("persistent",) else None

    def save_call(self, call: Global) -> None:
        module, _, name = call.function.rpartition(".")
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        if call.arguments:
            self.save(call.arguments)
            self.write(pickle.REDUCE)

    dispatch = {**pickle._Pickler.dispatch, Global: save_call}


def tensor(key: str, count: int, offset: int, shape: tuple, strides: tuple) -> Global:
    storage = ("persistent", "storage", Global("torch.FloatStorage"), key, "cpu", count, None)
    arguments = (storage, offset, shape, strides, False, collections.OrderedDict())
    return Global("torch._utils._rebuild_tensor_v2", *arguments)


def legacy(state, storages: dict[str, np.ndarray]) -> bytes:
    """A file as torch.save wrote it before 1.6."""
    stream = io.BytesIO()
    for part in (MAGIC, 1001, {"little_endian": True}, state, list(storages)):
        Writer(stream, 2).dump(part)
    for values in storages.values():
        stream.write(len(values).to_bytes(8, "little") + values.astype("<f4").tobytes())
    return stream.getvalue()


def test_tensors_shared_and_transposed(tmp_path):
    values = np.arange(12, dtype=np.float32)
    state = collections.OrderedDict(
        plain=tensor("1", 12, 0, (3, 4), (4, 1)), turned=tensor("1", 12, 0, (4, 3), (1, 4)),
        part=tensor("1", 12, 8, (4,), (1,)), number=tensor("2", 1, 0, (), ()),
    )  # fmt: skip
    path = tmp_path / "state.pth"
    path.write_bytes(legacy(state, {"1": values, "2": np.array([7.0])}))
    found = checkpoint.read(path)
    assert list(found) == ["plain", "turned", "part", "number"]
    assert (found["plain"] == values.reshape(3, 4)).all()
    assert (found["turned"] == values.reshape(3, 4).T).all()
    assert (found["part"] == values[8:]).all() and found["number"] == 7


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (Global("os.system", "touch PWNED"), "asks for os.system"),
        (Global("builtins.eval", "open('PWNED', 'w')"), "asks for builtins.eval"),
        ({"a": Global("torch.nn.Linear", 3, 4)}, "asks for torch.nn.Linear"),
        ({"a": tensor("1", 12, 10, (4,), (1,))}, "reaches beyond"),
        ({"a": tensor("1", 12, 0, (4,), (100,))}, "reaches beyond"),
        ({"a": tensor("1", 12, 4, (4,), (-1,))}, "negative"),
        ({"a": tensor("1", 13, 0, (4,), (1,))}, "another size"),
        ({"a": 3}, "KeyError"),
    ],
)
def test_anything_else_is_refused(tmp_path, monkeypatch, state, reason):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "state.pth"
    path.write_bytes(legacy(state, {"1": np.arange(12)}))
    with pytest.raises(UserError, match="not a checkpoint of tensors") as refused:
        checkpoint.read(path)
    assert reason in str(refused.value) and not os.path.exists("PWNED")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip archive", b"\x80\x02K\x01.", b"<html>"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "state.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="state.pth: not a checkpoint of tensors"):
        checkpoint.read(path)
    with pytest.raises(UserError, match="No such file"):
        checkpoint.read(tmp_path / "none.pth")


def test_cut_anywhere(tmp_path):
    whole = legacy({"a": tensor("1", 12, 0, (12,), (1,))}, {"1": np.arange(12)})
    path = tmp_path / "state.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a checkpoint of tensors"):
            checkpoint.read(path)
