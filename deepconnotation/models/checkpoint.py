"""PyTorch checkpoints read as arrays, without PyTorch and without running what they say.

A checkpoint is a pickle, and a pickle may call anything. Here it may only name ordered
dictionaries and tensors of numbers; anything else is refused.
"""

import collections
import io
import pickle
from pathlib import Path

import numpy as np

from deepconnotation.console import UserError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ByteStorage": "|u1",
}  # fmt: skip


class _Refused(pickle.UnpicklingError):
    """The checkpoint asks for something else than tensors."""


class _Storage:
    """The numbers of one or more tensors; they come after all pickles in the file."""

    def __init__(self, dtype: str, count: int):
        self.dtype, self.count, self.values = dtype, count, np.empty(0, dtype)


class _Tensor:
    """A view of a storage, as `torch._utils._rebuild_tensor_v2` is told it."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        steps = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        last = self.offset + sum(steps)
        if min(self.offset, *self.shape, *self.strides, 0) < 0:
            raise _Refused("a tensor of negative size")
        if 0 not in self.shape and last >= len(self.storage.values):
            raise _Refused("a tensor that reaches beyond its storage")
        values = self.storage.values[self.offset :]
        strides = [s * values.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, strides).copy()


class _Reader(pickle.Unpickler):
    def __init__(self, stream):
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise _Refused(f"it asks for {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None:
            raise _Refused(f"an unknown reference {kind!r}")
        return self.storages.setdefault(key, _Storage(dtype, count))


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read a state dictionary as PyTorch wrote it before version 1.6 (no zip archive).

    Args:
        path: of the file.

    Returns:
        Arrays by name, in the file's order and with PyTorch's order of axes.

    Raises:
        UserError: when the file is missing, damaged, or asks for anything but tensors.
    """
    try:
        stream = io.BytesIO(Path(path).read_bytes())
        if _Reader(stream).load() != _MAGIC:
            raise _Refused("it has not the format of PyTorch before 1.6")
        _Reader(stream).load()  # version
        _Reader(stream).load()  # byte order and sizes of the machine that wrote it
        reader = _Reader(stream)
        tensors = reader.load()
        for key in _Reader(stream).load():
            storage = reader.storages[key]
            size = int.from_bytes(stream.read(8), "little")
            if size != storage.count:
                raise _Refused("a storage of another size than announced")
            raw = stream.read(size * np.dtype(storage.dtype).itemsize)
            storage.values = np.frombuffer(raw, storage.dtype)
        return {name: tensor.array() for name, tensor in tensors.items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        text = f"{type(error).__name__}: {error}" if not isinstance(error, _Refused) else error
        raise UserError(f"{path}: not a checkpoint of tensors ({text})") from None
