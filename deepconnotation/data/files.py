"""The files of a folder and of all folders in it, links followed, and which are clutter."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_CLUTTER = re.compile(
    r"^(\..*|thumbs\.db|desktop\.ini|__macosx|@eadir|.*\.(part|tmp|crdownload))$", re.IGNORECASE
)


def is_clutter(name: str) -> bool:
    """Tell whether a file's or folder's name says that it is a system's or partial, no picture."""
    return _CLUTTER.match(name) is not None


def below(folder: str | Path, into_clutter: bool = True) -> Iterator[Path]:
    """Yield a folder's files by name, then those of its subfolders.

    A class or a whole data set is often a link to another disk. A link that leads back to a folder
    it lies in ends there. A subfolder that may not be read is yielded itself, for whoever opens it
    to say so; pipes and devices, which may never end, are left out.

    Args:
        folder: whatever its own name is.
        into_clutter: False yields a system's subfolder itself instead of what is in it.
    """
    yield from _below(Path(folder), (), into_clutter)


def _below(folder: Path, above: tuple[Path, ...], into_clutter: bool) -> Iterator[Path]:
    real = folder.resolve()
    if any(each.is_relative_to(real) for each in above):
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False) or (entry.is_symlink() and _is_file(entry.path)):
            yield folder / entry.name
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry)):
            if is_clutter(entry.name) and not into_clutter:
                yield folder / entry.name
            else:
                yield from _below(folder / entry.name, (*above, real), into_clutter)


def _is_file(link: str) -> bool:
    return os.path.isfile(link) or not os.path.exists(link)  # a broken link is told as one
