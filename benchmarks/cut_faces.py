"""What cutting faces out of pictures is worth: faces in photographs, answered in four ways.

    python benchmarks/cut_faces.py data/faces128-names snapshots/expressions

From the top of the repository. 500 dev faces are each put, 100 to 400 pixels large, at a random
place of an OASIS photograph without people, enlarged to 1,280 by 1,024 pixels (seed 0). Prints how
many are found there, how many boxes hold none, and the accuracy of the run on the faces as they
are, without and with `predict --faces` (the largest box; what is not found is wrong), as it cuts
them out of the photographs, and on these as a whole.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from deepconnotation import predict, run
from deepconnotation.console import argument_parser, run_command
from deepconnotation.data import faces, manifest

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))
COUNT, SIZE, SIDES = 500, (1280, 1024), (100, 400)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("dataset")
    parser.add_argument("run")
    args = parser.parse_args()
    table, random = manifest.read(args.dataset), np.random.default_rng(0)
    table = table[table["split"] == "dev"].sample(COUNT, random_state=0)
    ratings = pd.read_csv(DATA / "oasis/ratings.csv")
    photographs = ratings.loc[ratings["category"] != "People", "file"].sample(
        COUNT, replace=True, random_state=0
    )
    found, none, paths = 0, 0, {"whole": [], "alone": []}
    with tempfile.TemporaryDirectory() as folder:
        for row, photograph in zip(table.itertuples(), photographs, strict=True):
            face = Image.open(DATA / "facial_expressions" / row.source).convert("RGB")
            scene = Image.open(DATA / "oasis/images" / photograph).convert("RGB").resize(SIZE)
            side = int(random.integers(*SIDES))
            left, top = (int(random.integers(length - side)) for length in SIZE)
            scene.paste(face.resize((side, side), Image.Resampling.LANCZOS), (left, top))
            boxes = faces.find(scene)
            there = [_holds(box, left, top, side) for box in boxes]
            found, none = found + any(there), none + len(there) - sum(there)
            for name, picture in (("whole", scene), ("alone", face)):
                paths[name].append(Path(folder) / f"{name}-{row.id}.png")
                picture.save(paths[name][-1], compress_level=1)
        print(f"found: {found} of {COUNT}; boxes that hold none: {none}")
        tell(run.load(args.run), table["label"].tolist(), paths)


def tell(found: run.Run, labels: list[str], paths: dict[str, list[Path]]) -> None:
    """Print the accuracy in the four ways."""
    for words, name, cut in (
        ("as they are", "alone", False), ("as they are, --faces", "alone", True),
        ("cut by --faces", "whole", True),
        ("whole pictures", "whole", False),
    ):  # fmt: skip
        told = {}
        for row in predict.predict(found, paths[name], faces=cut):
            told.setdefault(row["file"], row.get("label"))  # the first one is the largest
        right = [told[str(p)] == label for p, label in zip(paths[name], labels, strict=True)]
        print(f"{words}: {np.mean(right):.3f}")


def _holds(box: faces.Box, left: int, top: int, side: int) -> bool:
    """Tell whether a box's middle lies in the middle half of the face."""
    middle = (box[0] + box[2]) / 2 - left, (box[1] + box[3]) / 2 - top
    return all(abs(at - side / 2) < side / 4 for at in middle)


if __name__ == "__main__":
    run_command(main)
