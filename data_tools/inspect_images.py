#!/usr/bin/env python3
"""Look at a data set's pictures: deepconnotation.inspect_images, where a person looks for it."""

import sys
from pathlib import Path

# A clone works without installing the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepconnotation.console import run_command  # noqa: E402
from deepconnotation.inspect_images import main  # noqa: E402

if __name__ == "__main__":
    run_command(main)
