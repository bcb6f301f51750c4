"""What a host's signs for pictures that are gone do to figures on FI.

    python benchmarks/placeholders.py

Nothing left out, 80/20 at random by picture (seed 0), as in the original projects: a logistic
regression on ImageNet features of EfficientNet-Lite0 at 128 pixels, trained with the signs and
without them, tested on all pictures, on the signs alone and on the others. Accuracy with 95 %
bootstrap intervals.
"""

import os
from pathlib import Path

import numpy as np

from deepconnotation import embed, metrics, probe
from deepconnotation.console import argument_parser, run_command
from deepconnotation.data import prepare
from deepconnotation.data.sources import Options, read
from deepconnotation.embeddings import Embeddings

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))
PREPARED, EMBEDDED = Path("data/fi128-all"), Path("snapshots/fi128-all-probe")
STRENGTH = 0.001  # C of the logistic regression


def is_sign(found: Embeddings) -> np.ndarray:
    """Return bool (n,): what preparing would leave out as a host's sign."""
    table = found.table()
    gone = prepare.drop_repeats(table.reset_index())[1]
    signs = {each.source for each in gone if each.reason == "placeholder"}
    return table["source"].isin(signs).to_numpy()


def accuracy(found: Embeddings, train: np.ndarray, tests: dict[str, np.ndarray]) -> list[str]:
    """Return a cell of the table for every set of test pictures."""
    model = probe.fit(STRENGTH, found.rows[train], found.labels[train])
    majority = int(np.bincount(found.labels[train]).argmax())
    cells = []
    for rows in tests.values():
        f = metrics.summarise(
            found.labels[rows], model.predict(found.rows[rows]), found.info.classes, majority
        )["accuracy"]
        cells.append(metrics.with_interval(f))
    return cells


def main() -> None:
    argument_parser(__doc__).parse_args()
    source = read("fi", [DATA / "fi" / "images"], Options())
    prepare.prepare(source, PREPARED, 128, fractions="80/20", as_published=True)
    embed.embed("efficientnet_lite0", PREPARED, EMBEDDED)
    found = Embeddings.of(EMBEDDED, PREPARED)
    sign, train, test = is_sign(found), found.where("train"), found.where("test")
    tests = {"all": test, "signs": test[sign[test]], "others": test[~sign[test]]}
    header = " | ".join(f"{name} ({len(rows):,})" for name, rows in tests.items())
    print(f"| trained on | {header} |\n|---|{'---|' * len(tests)}")
    for name, rows in (("all", train), ("without signs", train[~sign[train]])):
        cells = " | ".join(accuracy(found, rows, tests))
        print(f"| {name} ({len(rows):,}) | {cells} |", flush=True)


if __name__ == "__main__":
    run_command(main)
