r"""Learn from another data set's pictures too: runs answer them, and their answers are the labels.

    python -m deepconnotation.pseudo snapshots/a snapshots/b --data data/faces --more data/fer \
        --out data/both
    python -m deepconnotation.train --data data/both --distributions --run snapshots/student

Pseudo-labels (Lee 2013; Xie et al. 2020, "Self-training with noisy student", arXiv:1911.04252). The
new data set has the dev and test pictures of --data and no others; the training pictures of --more
that are nearly equal to one of these, or show the same person, are left out, and so is what --data
has already. Where --more has the same classes, its own labels are heard as a second opinion. What
--data has for training keeps its labels (or its viewers' shares), and its targets are half of that
and half the answer. The command, interrupted and given again, goes on.
"""

import argparse
import hashlib
import io
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import (
    UserError,
    argument_parser,
    folder_atomic,
    going_on,
    progress,
    reading,
    run_command,
    write_atomic,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from deepconnotation.data.manifest import DatasetInfo

HELD_OUT = ("dev", "test")
BATCH = 128  # pictures
SAVE_EVERY = 16  # batches


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.pseudo")
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="run folders; the mean of their answers counts")
    add("--data", metavar="DATASET", required=True, help="data set that the runs' classes are of")
    add("--more", metavar="DATASET", required=True, help="data set whose training pictures are "
        "added, prepared at the same size")  # fmt: skip
    add("--out", metavar="DIR", required=True, help="folder of the new data set")
    return parser.parse_args(arguments)


@going_on()
def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    from deepconnotation.data import prepare

    runs = [run.load(folder) for folder in args.runs]
    for each in runs:
        each.need_classes()
    label(runs, Path(args.data), Path(args.more), Path(args.out))
    print(prepare.summary(args.out))
    print("learn the answers with: train --distributions")


def label(runs: Sequence[run.Run], dataset: Path, more: Path, out: Path) -> None:
    """Write a data set with the training pictures of another one, labelled by runs.

    Args:
        runs: of the classes of `dataset`; the mean of their answers counts.
        dataset: a prepared data set; its dev and test splits are those of the new one.
        more: another one, of the same size.
        out: folder of the new one, whose training pictures have columns share_CLASS, see
            `train --distributions`, and whose seen.npy holds what the runs have learned from.

    Raises:
        UserError: when `out` is there already, runs or data sets do not fit each other, or there
            is nothing to add.
    """
    import pandas as pd

    from deepconnotation import distribution, seen
    from deepconnotation.data import balance, manifest

    if out.exists():
        raise UserError(f"{out} exists already; choose another --out")
    info, theirs = manifest.read_info(dataset), manifest.read_info(more)
    check(runs, dataset, more)
    table, others = manifest.read(dataset), manifest.read(more)
    others, rejected = apart(table, others[others["split"] == "train"], dataset, more)
    work = out.with_name(f"{out.name}.answers")
    answer = _mean_answer(runs, (info.height, info.width))
    own, told = (
        _answers(answer, part, work / f"{_digest(runs, part)}.npy", info.classes)
        for part in (dataset, more)
    )
    told = told.loc[others["id"]]
    if set(theirs.classes) == set(info.classes):
        labels = others["label"].map(info.classes.index).to_numpy()
        told[:] = second_opinion(told.to_numpy(), labels)
    added = _rows(others, told, theirs.name, ", ".join(str(r.path) for r in runs))
    whole = pd.concat([table, added], ignore_index=True)
    whole = whole[[*table.columns, "answered_by"]].fillna("")
    right = table.set_index("id").loc[own.index]
    labels = right["label"].map(info.classes.index).to_numpy()
    own = (own + distribution.targets(right, labels, info.classes)[0]) / 2
    whole = _with_shares(whole, pd.concat([own, told.set_index(added["id"])]))
    with folder_atomic(out) as partial:
        balance.link(dataset, partial, table["file"], table["file"])
        balance.link(more, partial, others["file"], added["file"])
        balance.write_rejected(dataset, partial, rejected)
        seen.write(partial, *(seen.of(each) for each in runs))
        manifest.write(partial, manifest.to_csv(whole), _described(info, theirs, runs))
    shutil.rmtree(work)


def check(runs: Sequence[run.Run], dataset: Path, more: Path) -> None:
    """Refuse runs that tell something else than a data set's classes or know what it keeps for dev
    or test, and data sets that do not go together.

    Raises:
        UserError: saying which.
    """
    from deepconnotation import seen
    from deepconnotation.data import manifest

    info, theirs = manifest.read_info(dataset), manifest.read_info(more)
    shapes = [(each.height, each.width, each.grey) for each in (info, theirs)]
    if shapes[0] != shapes[1]:
        raise UserError(f"--more {more} has pictures of another size or colour than {dataset}; "
                        "prepare it with the same --size and --grey")  # fmt: skip
    for path in (dataset, more):
        if manifest.bound_to_training(manifest.read(path)).any():
            raise UserError(f"{path} holds copies, or pictures that a run labelled; give the data "
                            "set that it came from")  # fmt: skip
    for found in runs:
        if found.classes != list(info.classes) or found.multi_label:
            raise UserError(f"{found.path} does not tell one of {', '.join(info.classes)}, the "
                            f"classes of {dataset} in their order")  # fmt: skip
        seen.refuse(str(found.path), seen.of(found), dataset)


def apart(
    table: "pd.DataFrame", others: "pd.DataFrame", dataset: Path, more: Path
) -> "tuple[pd.DataFrame, list[tuple[str, str, str]]]":
    """Leave out what a data set has, and what must not stand beside its dev and test pictures.

    Args:
        table: the data set's manifest.
        others: rows of another one's.
        dataset: the data set's folder.
        more: the other one's.

    Returns:
        The rows that stay, and source, reason and detail of each that does not.

    Raises:
        UserError: when none stays.
    """
    import numpy as np
    import pandas as pd

    from deepconnotation.data import duplicates, prepare

    held_out = table[table["split"].isin(HELD_OUT)]
    both = pd.concat([held_out, others], ignore_index=True)
    hashes = np.array([int(h, 16) for h in both["phash"]], np.uint64)
    sides = ["held out"] * len(held_out) + ["added"] * len(others)
    folders = [dataset] * len(held_out) + [more] * len(others)

    def thumbnails_of(rows: "np.ndarray") -> "Iterator[Image.Image]":
        return (prepare.read_thumbnail(f"{folders[i]}/{both['file'][i]}") for i in rows)

    pairs = duplicates.near_pairs(hashes, sides, thumbnails_of)
    near = np.isin(np.arange(len(both)), pairs[:, 1])[len(held_out) :]
    people = set(held_out["group"]) - {""}
    why = {
        ("near_held_out", "nearly equal to a picture of dev or test"): near,
        ("group_held_out", "of a group that is in dev or test"): others["group"].isin(people),
        ("duplicate", f"same bytes as a picture of {dataset}"): others["sha256"].isin(
            table["sha256"]
        ),
    }
    rejected, stays = [], np.ones(len(others), bool)
    for reason, there in why.items():
        rejected += [(source, *reason) for source in others["source"][there & stays]]
        stays &= ~there
    if not stays.any():
        raise UserError(f"--more {more} has no training pictures that {dataset} does not have")
    return others[stays].reset_index(drop=True), rejected


def second_opinion(probabilities: "np.ndarray", labels: "np.ndarray") -> "np.ndarray":
    """Return answers that have heard another data set's labels of the same pictures.

        p(class | picture, label) ~ p(class | picture) p(label | class)

    where p(label | class) is counted from the answers themselves, each cell beginning at one: the
    first step of Dawid and Skene's EM (1979). Further steps make the answers surer of themselves
    and were left out.

    Args:
        probabilities: float (n, classes), rows that sum to 1.
        labels: int (n,), indices into the classes.

    Returns:
        float64 (n, classes), rows that sum to 1.
    """
    import numpy as np

    classes = probabilities.shape[1]
    counts = np.ones((classes, classes))  # label, class
    np.add.at(counts, labels, probabilities)
    joint = probabilities * (counts / counts.sum(axis=0))[labels]
    return joint / joint.sum(axis=1, keepdims=True)


def _mean_answer(runs: Sequence[run.Run], size: tuple[int, int]) -> Callable:
    """Return what `answer.answers` returns, of the runs' mean and pictures of a size."""
    from deepconnotation.answer import answers
    from deepconnotation.ensemble import average
    from deepconnotation.models.fold import fold

    model = average([fold(r.model) for r in runs], [r.temperature for r in runs], size)
    return answers(model, any(r.test_flip for r in runs))


def _answers(answer: Callable, dataset: Path, path: Path, classes: Sequence[str]) -> "pd.DataFrame":
    """Return probabilities of the training pictures, float64, a column a class, by id.

    They are kept in a file on the way, so that an interrupted command goes on when given again.
    """
    import numpy as np
    import pandas as pd

    from deepconnotation.data import pipeline

    part = pipeline.load(dataset, "train")
    told = np.zeros((len(part.labels), len(classes)))
    done = 0
    if path.exists():
        with reading(path, f"delete {path.parent}"):
            known = np.load(path)
        done = len(known)
        told[:done] = known
    batches = pipeline.batches(part, BATCH, skip=math.ceil(done / BATCH))
    with progress(f"pictures of {dataset}", len(told), done) as advance:
        for batch, (images, _) in enumerate(batches, start=1):
            p = np.exp(np.asarray(answer(images)[0], np.float64))
            told[done : done + len(p)] = p / p.sum(axis=1, keepdims=True)
            done += len(p)
            advance(len(p))
            if batch % SAVE_EVERY == 0:
                _keep(path, told[:done])
    _keep(path, told)
    return pd.DataFrame(told, part.table["id"], classes)


def _digest(runs: Sequence[run.Run], dataset: Path) -> str:
    """Return a name for what these runs answer on these pictures."""
    from deepconnotation.data import manifest

    asked = [(run.file_sha256(r.path / "model.keras"), r.temperature, r.test_flip) for r in runs]
    return hashlib.sha256(repr((asked, manifest.fingerprint(dataset))).encode()).hexdigest()[:16]


def _keep(path: Path, told: "np.ndarray") -> None:
    import numpy as np

    file = io.BytesIO()
    np.save(file, told)
    write_atomic(path, file.getvalue())


def _rows(others: "pd.DataFrame", told: "pd.DataFrame", name: str, who: str) -> "pd.DataFrame":
    """Return manifest rows of the pictures that are added: the likeliest class is the label."""
    from deepconnotation.data import manifest

    ids, labels = name + "_" + others["id"], told.idxmax(axis=1).to_numpy()
    files = [manifest.file_of("train", *pair) for pair in zip(labels, ids, strict=True)]
    return others.assign(
        id=ids, label=labels, file=files, source=name + "/" + others["source"],
        votes_for="", votes_against="", answered_by=who,
    )  # fmt: skip


def _with_shares(table: "pd.DataFrame", shares: "pd.DataFrame") -> "pd.DataFrame":
    """Return a manifest with what is to be learned of each training picture; the others' shares
    stay as they are."""
    from deepconnotation.distribution import COLUMN

    text = shares.map("{:.6g}".format).rename(columns=COLUMN.format)
    before = table.set_index("id").reindex(columns=text.columns, fill_value="")
    both = text.reindex(before.index).fillna(before)
    return table.assign(**{column: both[column].to_numpy() for column in both})


def _described(
    info: "DatasetInfo", theirs: "DatasetInfo", runs: Sequence[run.Run]
) -> "DatasetInfo":
    """Return what dataset.json is to say."""
    from deepconnotation import seen

    sources = dict.fromkeys(s for each in runs for s in seen.data_sets(each.config))
    return replace(
        info,
        name=f"{info.name} with {theirs.name}",
        licence=f"{info.licence}; {theirs.name}: {theirs.licence}",
        drawn=info.drawn or theirs.drawn,
        split=f"{info.split}; training pictures of {theirs.name} added, labelled by "
        + ", ".join(str(each.path) for each in runs),
        learned_from=tuple(sources),
    )


if __name__ == "__main__":
    run_command(main)
