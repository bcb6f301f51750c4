"""Valence and arousal of OASIS by five-fold cross-validation on frozen embeddings.

    python benchmarks/oasis.py efficientnet_lite0@224
    python benchmarks/oasis.py efficientnet_lite0@256 efficientnet_lite0:stage6_block4_add@256 \\
        snapshots/fi-lite0-s0@192

From the top of the repository. Each encoder is a run folder or an architecture, a layer of it where
not its embedding, and the side of the pictures it sees. Prepares the pictures, embeds them, and
prints CCC, RMSE and SAGR of answers from folds that did not see a picture, with 95 % intervals
(bootstrap of pictures).
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from deepconnotation import affect, affect_probe, embed
from deepconnotation.console import argument_parser, run_command
from deepconnotation.embeddings import Embeddings

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("encoders", metavar="RUN|ARCH[:LAYER]@SIDE", nargs="+")
    parts = [embeddings(encoder) for encoder in parser.parse_args().encoders]
    table, groups = parts[0].table(), parts[0].groups()
    values = affect.values(table)
    rows = [part.rows[part.table().index.get_indexer(table.index)] for part in parts]
    units = tuple(part.rows.shape[1] for part in parts)
    told = affect_probe.cross_validate(np.concatenate(rows, axis=1), values, groups, units)
    print(affect.as_text(affect.summarise(values, told, groups.tolist())))


def embeddings(encoder: str) -> Embeddings:
    """Return the embeddings of OASIS by one encoder, as the command line writes it."""
    encoder, _, side = encoder.partition("@")
    backbone, _, layer = encoder.partition(":")
    layer = layer or "embedding"
    data = Path(f"data/oasis{side}")
    words = ["data_tools/fetch_and_resize.py", str(DATA / "oasis"), "--dataset", "oasis",
             "--size", side, "--out", str(data)]  # fmt: skip
    subprocess.run([sys.executable, *words], check=True)
    folder = Path("snapshots") / f"oasis-{Path(backbone).name}-{layer}-{side}"
    embed.embed(backbone, data, folder, layer=layer)
    return Embeddings.of(folder, data)


if __name__ == "__main__":
    run_command(main)
