"""What every command shares: one-line errors, exit statuses, progress and atomic files."""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

BAD_USE = 2
INTERRUPTED = 130
PLAIN_SECONDS = 10.0  # between two plain lines of progress


class UserError(Exception):
    """Something the person at the keyboard can put right; its text says what and how."""


def one_line(error: BaseException) -> str:
    """Return what an exception says on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    r"""Return a text that stays on its line: a file's name may hold line breaks and a terminal's
    commands, which become \x0a and the like."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda sign: f"\\x{ord(sign[0]):02x}", text)


class Parser(argparse.ArgumentParser):
    """A parser that tells bad use on one line, and that a shell can ask for completions, where
    argcomplete is installed."""

    def parse_args(self, args=None, namespace=None):
        """Parse, or answer the shell and leave."""
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        # --data "$DATA" with no such variable would be as good as no --data: the drawn set.
        for word in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"(--[\w-]+=)?", word):
                self.error(f"{word or 'an argument'} is empty; is a variable of the shell not set?")
        return super().parse_args(args, namespace)

    def error(self, message: str):
        """Leave with one line, as for all other bad use; a usage of a screen would hide it."""
        self.exit(BAD_USE, f"error: {printable(message)}; {self.prog} --help tells what there is\n")


def argument_parser(doc: str | None, prog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser whose --help shows a module's docstring as it is written."""
    return Parser(prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return an argument's type: a whole number from `low` to `high`."""

    def number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if low <= int(text) <= high:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {low} to {high}")

    return number


SEEDS = 0, 2**31 - 1  # what TensorFlow and NumPy both take
seed_number = whole_number(*SEEDS)
counting_number = whole_number(1, 10**6)


_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; make room, then go on as after Ctrl-C"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS),
                    "; take another file or folder, or change who may use this one"),
}  # fmt: skip


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and leave the process with its exit status.

    `UserError` and the operating system's refusals become one line on standard error and status
    2; Ctrl-C gives 130, and so do the `terminations`.
    """
    for each in terminations():
        signal.signal(each, _terminated)
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, _outliving(getattr(sys, name), number))
    try:
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = BAD_USE
    except KeyboardInterrupt as error:
        print(f"interrupted{f': {error}' if str(error) else ''}", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`) has enough; Python must not complain again when it closes stdout.
        _discard(sys.stdout.fileno())
        status = 0
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno, "")
        print(f"error: {printable(name)}{error.strerror or error}{hint}", file=sys.stderr)
        status = BAD_USE
    sys.exit(status)


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Let Ctrl-C tell, inside of it or of a function with this decorator, that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what is done is kept; the same command goes on") from None


def terminations() -> list[signal.Signals]:
    """Return the signals that end a command as Ctrl-C does, and what that keeps is kept: `kill`, a
    batch system, a container that is stopped; a terminal that goes away, unless nohup(1) has said
    that this ends nothing."""
    both = signal.SIGTERM, signal.SIGHUP
    return [each for each in both if signal.getsignal(each) != signal.SIG_IGN]


class _Terminal(io.FileIO):
    """A terminal; what it is told when it has gone away goes nowhere, and stops nothing: after
    SIGHUP, or in the background of a shell that was left, where no signal says so."""

    def write(self, told) -> int:
        try:
            return super().write(told)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            _discard(self.fileno())
            return len(told)


def _outliving(stream: io.TextIOWrapper | None, number: int) -> io.TextIOWrapper:
    """Return a standard stream to which everything can be told, whoever listens."""
    if stream is None:  # closed by who started the command, as with `>&-`
        _discard(number)
        stream = open(number, "w", closefd=False)
    # What the terminal cannot show, a file's name or a ± in Latin letters alone, stops nothing.
    stream.reconfigure(errors="backslashreplace")
    if not stream.isatty():
        return stream
    terminal = io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(terminal, stream.encoding, stream.errors, line_buffering=True)


def _discard(stream: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _terminated(number: int, _) -> None:
    signal.signal(number, signal.SIG_IGN)  # timeout(1) sends it twice
    raise KeyboardInterrupt


@contextlib.contextmanager
def reading(path: str | Path, hint: str) -> Iterator[None]:
    """Read a file of ours inside of it: that it is damaged is one line that names it.

    Args:
        path: the file.
        hint: what to do then.

    Raises:
        UserError: for what pandas, NumPy, JSON and zip files raise of bytes that are not theirs.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged ({one_line(error)}); {hint}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what native libraries write past every log level off standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def progress(what: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal and a plain line every few seconds elsewhere, on standard error.

    Args:
        what: what is being counted, for example "pictures".
        total: how many there are, or None when nobody knows.
        done: how many were finished by an earlier run.

    Yields:
        A function to call with the number of items finished since the last call.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), Remaining()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda n: bar.advance(task, n)
        return

    started = last = time.monotonic()
    start = done

    def line() -> None:
        rate = (done - start) / max(time.monotonic() - started, 1e-9)
        of = f"/{total}" if total is not None else ""
        rate = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
        print(f"{what}: {done}{of} ({rate} a second)", file=sys.stderr, flush=True)

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            line()

    yield advance
    line()


@contextlib.contextmanager
def folder_atomic(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside; its name becomes `folder` when all is in it, and it goes where
    something fails."""
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with naming(folder):
            yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Work in a folder, which is made, without another process that asks for the same; the kernel
    forgets it with the process, however it ends.

    Raises:
        UserError: when there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(f"{folder}: another process is at work there; wait for it, or end it"
                        ) from None  # fmt: skip
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


def need_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written into, before the work and not after it.

    Raises:
        UserError: when it is such a folder.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: nothing can be written there; take another folder, or a copy")


def own_cache(folder: Path) -> Path:
    """Return the user's own folder for what is made of one that may not be written, as on a shared
    disk; it need not be there yet.

    Raises:
        UserError: when the system knows no home of the user.
    """
    try:
        top = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise UserError(f"{folder}: nothing can be written there, and this user has no home "
                        "folder; set XDG_CACHE_HOME to a folder") from None  # fmt: skip
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    return Path(top) / "deepconnotation" / digest[:16]


def text_table(table) -> str:
    """Return a pandas table as text for a terminal, where a Chinese letter is two places wide."""
    import pandas as pd

    with pd.option_context("display.unicode.east_asian_width", True):
        return table.to_string()


def utf8(text: str) -> bytes:
    r"""Return a text's bytes; what no UTF-8 can hold, as a file's name may, becomes \udce9 and the
    like."""
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let what the operating system refuses inside of it, a full disk for example, name a file that
    somebody knows, where it names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def file_atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder; the file that is made there is called `path` when
    all of it is on the disk, and goes where something fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.tmp.{path.name}")  # writers look at how it ends
    try:
        with naming(path):
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a whole file under a temporary name in the same folder, then rename it into place."""
    with file_atomic(path) as partial:
        partial.write_bytes(utf8(content) if isinstance(content, str) else content)
