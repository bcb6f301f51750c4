"""Valence and arousal of OASIS by five-fold cross-validation on frozen embeddings.

    python benchmarks/oasis.py efficientnet_lite0 --size 224
    python benchmarks/oasis.py snapshots/fi-lite0-s0 --size 192

From the top of the repository. Prepares the pictures, embeds them, and prints CCC, RMSE and SAGR of
answers from folds that did not see a picture, with 95 % intervals (bootstrap of pictures).
"""

import os
import subprocess
import sys
from pathlib import Path

from deepconnotation import affect, affect_probe, embed
from deepconnotation.console import argument_parser, run_command
from deepconnotation.embeddings import Embeddings

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("backbone", metavar="RUN|ARCH")
    parser.add_argument("--size", type=int, default=224)
    args = parser.parse_args()
    data = Path(f"data/oasis{args.size}")
    words = ["data_tools/fetch_and_resize.py", str(DATA / "oasis"), "--dataset", "oasis",
             "--size", str(args.size), "--out", str(data)]  # fmt: skip
    subprocess.run([sys.executable, *words], check=True)
    folder = Path("snapshots") / f"oasis-{Path(args.backbone).name}-{args.size}"
    embed.embed(args.backbone, data, folder)
    found = Embeddings.of(folder, data)
    values = affect.values(found.table())
    told = affect_probe.cross_validate(found.rows, values, found.groups())
    print(affect.as_text(affect.summarise(values, told, found.groups().tolist())))


if __name__ == "__main__":
    run_command(main)
