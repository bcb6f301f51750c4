"""FER2013 (Goodfellow et al. 2013, arXiv 1307.0414), 48x48 grey faces in three official parts.

    FOLDER/Training/CLASS/*.jpg, FOLDER/PublicTest/CLASS/*.jpg, FOLDER/PrivateTest/CLASS/*.jpg

PublicTest becomes the dev split and PrivateTest the test split, as in the competition.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deepconnotation.console import UserError
from deepconnotation.data.sources import Source, folder
from deepconnotation.emotions import FER2013

#: part -> split, held-out ones first: of equal pictures the first is kept, so training loses them.
PARTS = {"PrivateTest": "test", "PublicTest": "dev", "Training": ""}


def read(root: str | Path, drops: Sequence[str] = ()) -> Source:
    """Read the three parts.

    Args:
        root: see above.
        drops: classes to leave out.

    Raises:
        UserError: when a part is not there, or a folder in it is no class.
    """
    root, items, rejections = Path(root), [], []
    for part, split in PARTS.items():
        if not (root / part).is_dir():
            raise UserError(f"{root / part}: no such folder; expected {', '.join(PARTS)} in {root}")
        found = folder.read(root / part, FER2013, drops)
        items += [replace(i, source=f"{part}/{i.source}", split=split) for i in found.items]
        rejections += [replace(r, source=f"{part}/{r.source}") for r in found.rejections]
    return Source("fer2013", FER2013.drop(*drops), items, rejections, "research only")
