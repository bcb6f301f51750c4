"""Runs the scripts of data_tools as a person would, but without a new process for each."""

import contextlib
import io
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

TOOLS = Path(__file__).resolve().parents[1] / "data_tools"


def tool(name: str, *arguments) -> CompletedProcess:
    """Run data_tools/NAME with arguments; return its exit status and what it printed."""
    words = [str(TOOLS / name), *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "path", list(sys.path)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            status = end.code
    return CompletedProcess(words, status, out.getvalue(), err.getvalue())
