"""Prepared pictures in few files while their places are not known: making a file is what costs.

A packed picture's name is PATH@OFFSET+SIZE, bytes of the file PATH.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepconnotation.console import naming

_NAME = re.compile(r"(.+)@(\d+)\+(\d+)")


def write(path: str | Path, contents: Sequence[bytes]) -> list[str]:
    """Write contents one after the other into a file; return their names, with its own first."""
    names, offset = [], 0
    for content in contents:
        names.append(f"{path}@{offset}+{len(content)}")
        offset += len(content)
    with naming(path), open(path, "wb") as file:
        file.write(b"".join(contents))
    return names


def is_packed(name: str) -> bool:
    """Tell a packed picture's name from a file's."""
    return _NAME.fullmatch(name) is not None


def read(name: str) -> bytes:
    """Return the bytes of a packed picture, or of a file."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Path(name).read_bytes()
    with open(match[1], "rb", buffering=0) as file:
        file.seek(int(match[2]))
        return file.read(int(match[3]))


def unpack(folder: str | Path, places: Sequence[tuple[str, str]]) -> None:
    """Write packed pictures as files of their own; harmless to repeat while the packs are there.

    Args:
        folder: to which all names are relative.
        places: packed name and file of each.

    Raises:
        FileNotFoundError: when a pack is gone.
    """
    by_pack: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for name, file in places:
        path, offset, size = _NAME.fullmatch(name).groups()
        by_pack[path].append((int(offset), int(size), file))

    def one(path: str) -> None:
        data = memoryview(Path(f"{folder}/{path}").read_bytes())
        for offset, size, file in by_pack[path]:
            target = os.open(f"{folder}/{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            rest = data[offset : offset + size]
            try:
                with naming(f"{folder}/{file}"):
                    while rest:  # a full disk takes what it can before it refuses
                        rest = rest[os.write(target, rest) :]
            finally:
                os.close(target)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, by_pack))
