"""Runs commands as a person would, but without a new process for each; a full disk, no home."""

import contextlib
import io
import resource
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

TOOLS = Path(__file__).resolve().parents[1] / "data_tools"


def tool(name: str, *arguments) -> CompletedProcess:
    """Run data_tools/NAME; return its exit status and what it printed."""
    path = str(TOOLS / name)
    return _run([path, *map(str, arguments)], lambda: runpy.run_path(path, run_name="__main__"))


@contextlib.contextmanager
def files_of_at_most(size: int):
    """Refuse longer files as a full disk does: what fits is written, and the rest is not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def forget_home(monkeypatch) -> None:
    """Leave the user without a home, as in a container that runs as a number."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])


def command(name: str, *arguments, stdin: str = "", cwd: str | Path = ".") -> CompletedProcess:
    """Run python -m deepconnotation.NAME; return its exit status and what it printed."""

    def start() -> None:
        with warnings.catch_warnings(), contextlib.chdir(cwd):
            warnings.simplefilter("ignore", RuntimeWarning)  # that the module is loaded already
            runpy.run_module(f"deepconnotation.{name}", run_name="__main__", alter_sys=True)

    return _run([name, *map(str, arguments)], start, stdin)


def _run(words: list[str], start: Callable[[], object], stdin: str = "") -> CompletedProcess:
    streams = [io.TextIOWrapper(io.BytesIO(data), "utf-8", errors="surrogateescape", newline="")
               for data in (stdin.encode(), b"", b"")]  # fmt: skip
    status = 0
    with (
        mock.patch.multiple(
            sys,
            argv=words,
            path=list(sys.path),
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
        ),  # fmt: skip
        contextlib.suppress(BrokenPipeError),
    ):
        try:
            start()
        except SystemExit as end:
            status = end.code
    for stream in streams[1:]:
        stream.flush()
        stream.seek(0)
    return CompletedProcess(words, status, streams[1].read(), streams[2].read())
