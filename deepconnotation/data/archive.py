"""Unpack zip and tar files that nobody vouches for."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from deepconnotation.console import UserError, folder_atomic, one_line, progress
from deepconnotation.data.files import is_clutter

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_RATIO = 100  # unpacked to packed bytes; pictures are packed already
ALWAYS_ALLOWED = 100_000_000  # bytes unpacked, whatever the ratio
CHUNK = 1 << 20
MAX_TAIL = 64 << 20  # bytes behind the last member of a tar file

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    RuntimeError, ValueError, OverflowError,
)  # fmt: skip


def is_archive(path: str | Path) -> bool:
    """Tell by its name whether a file is an archive."""
    return str(path).lower().endswith(ENDINGS)


def unpack(path: str | Path, folder: str | Path) -> Path:
    """Unpack an archive once; return the folder inside which its pictures are.

    Args:
        path: a zip or tar file.
        folder: to be made; kept and used again when it is there.

    Raises:
        UserError: when a member leads out of the folder, is a link or a device, when the archive
            unpacks to far more than pictures do, or is damaged. Nothing of it is kept.
    """
    path, folder = Path(path), Path(folder)
    if not folder.exists():
        try:
            with folder_atomic(folder) as partial:
                _write_all(path, partial)
        except (*_DAMAGED, OSError) as error:
            if getattr(error, "errno", None) is not None:  # the system's own, like a full disk
                raise
            raise UserError(f"{path}: cannot be unpacked ({one_line(error)})") from None
    inside = [p for p in folder.iterdir() if not is_clutter(p.name)]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _write_all(path: Path, folder: Path) -> None:
    size, total = path.stat().st_size, 0
    limit = max(ALWAYS_ALLOWED, MAX_RATIO * size)
    with progress("unpacked files", None) as advance:
        for name, stream in _members(path):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                while chunk := stream.read(CHUNK):
                    total += len(chunk)
                    if total > limit:
                        raise UserError(
                            f"{path}: {size:,} bytes unpack to more than {limit:,}; refused as a "
                            "decompression bomb"
                        )
                    file.write(chunk)
            advance(1)


def _members(path: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yield the files of an archive; refuse everything that is neither file nor folder."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                mode = info.external_attr >> 16
                kind = stat.S_IFMT(mode)
                plain = kind in (0, stat.S_IFREG) and not info.is_dir()
                if name := _safe(path, info.filename, plain, info.is_dir()):
                    with archive.open(info) as stream:
                        yield name, stream
    else:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if name := _safe(path, member.name, member.isreg(), member.isdir()):
                    yield name, archive.extractfile(member)
            # The checksum of a packed tar file stands behind its last byte.
            for _ in range(MAX_TAIL // CHUNK):
                if not archive.fileobj.read(CHUNK):
                    break


def _safe(path: Path, name: str, is_file: bool, is_folder: bool) -> PurePosixPath | None:
    """Return the place of a file inside the folder; None for a folder."""
    inside = PurePosixPath(name.replace("\\", "/"))
    drive = PureWindowsPath(name).drive
    if drive or inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise UserError(f"{path}: member {name!r} leads out of the folder; refused")
    if is_folder:
        return None
    if not is_file:
        raise UserError(f"{path}: member {name!r} is a link or a device; refused")
    return inside
