"""A run on FER2013's PrivateTest beside the `fer` package's model, on the same files.

    make bench-env
    python benchmarks/fer2013.py RUN

RUN was trained on a data set prepared with `--dataset fer2013` and evaluated; its predictions.csv
is read, so the test split is not asked again. The package gets the original files, each whole
picture as a face, and runs as it is installed. Which of them its model has seen is not told.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
from turns import HERE, peers_python

from deepconnotation import compare, run
from deepconnotation.console import argument_parser, run_command
from deepconnotation.data import manifest
from deepconnotation.emotions import FER2013

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data")) / "fer2013"


def answered_by_package(ours: compare.Answered, data: Path) -> compare.Answered:
    """Return what the package says of the pictures that a run was evaluated on."""
    sources = manifest.read(data).set_index("id")["source"]
    files = [str((DATA / sources[each]).resolve()) for each in ours.table["id"]]
    told = subprocess.run(
        [peers_python("fer"), HERE / "peers" / "fer_answers.py"], input="\n".join(files), text=True,
        check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    answers = pd.Series(dict(line.rsplit(",", 1) for line in told.splitlines()))
    predicted = [FER2013.canonical(answers[file]) for file in files]
    table = ours.table.assign(predicted=predicted)
    return replace(ours, name="fer (PyPI)", table=table, minutes=0, recipe=None)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("run", metavar="RUN")
    folder = parser.parse_args().run
    ours = compare.load([folder])[0]
    data = Path(run.load(folder).config["data"]["path"])
    print(compare.as_markdown([ours, answered_by_package(ours, data)]))


if __name__ == "__main__":
    run_command(main)
