"""The files of a folder and of all folders in it, links followed."""

import os
from collections.abc import Iterator
from pathlib import Path


def below(folder: str | Path) -> Iterator[Path]:
    """Yield a folder's files by name, then those of its subfolders.

    A class or a whole data set is often a link to another disk. A link that leads back to a folder
    it lies in ends there. A subfolder that may not be read is yielded itself, for whoever opens it
    to say so; pipes and devices, which may never end, are left out.
    """
    yield from _below(Path(folder), ())


def _below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
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
            yield from _below(folder / entry.name, (*above, real))


def _is_file(link: str) -> bool:
    return os.path.isfile(link) or not os.path.exists(link)  # a broken link is told as one
