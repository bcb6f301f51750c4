"""Evaluate a run on a split of a prepared data set, or compare several runs.

    python -m deepconnotation.evaluate snapshots/faces
    python -m deepconnotation.evaluate snapshots/faces --split dev --by contributor
    python -m deepconnotation.evaluate snapshots/faces --without contributor=user3
    python -m deepconnotation.evaluate snapshots/faces --data data/fer --shared
    python -m deepconnotation.evaluate snapshots/fi --merge anger+fear
    python -m deepconnotation.evaluate snapshots/faces-s0 snapshots/faces-s1 snapshots/other

Prints the figures with 95 % bootstrap intervals beside the majority baseline; writes metrics.json,
predictions.csv and report.html into the run folder (for another split, data set or choice of
pictures or classes metrics-WHAT.json, predictions-WHAT.csv and report-WHAT.html). Of another data
set, pictures that the run has learned from are left out and counted. Of several runs, evaluated
before on the same pictures, it prints what differs from the first beyond chance (paired bootstrap,
McNemar's test), and mean and spread where they differ by nothing but the seed.
"""

import argparse
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import emotions, run
from deepconnotation.console import (
    UserError,
    argument_parser,
    need_writable,
    progress,
    run_command,
    write_atomic,
)
from deepconnotation.predictions import prediction_table, spreadsheet_safe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from deepconnotation.data.manifest import DatasetInfo
    from deepconnotation.data.pipeline import Split

BATCH = 256


@dataclass(frozen=True)
class Part:
    """Which pictures and classes of a data set are evaluated.

    Attributes:
        split: "train", "dev" or "test".
        merges: classes to be taken for one; their probabilities are added.
        without: conditions COLUMN=VALUE on pictures that are left out.
        shared: take only classes that both the run and the data set know; the others' probabilities
            are dropped, and their pictures left out.
    """

    split: str = "test"
    merges: Sequence[str] = ()
    without: Sequence[str] = ()
    shared: bool = False

    @property
    def words(self) -> list[str]:
        """What names its files; nothing for the whole test split."""
        return [*([] if self.split == "test" else [self.split]), *self.merges,
                *(f"without {each}" for each in self.without),
                *(["shared"] if self.shared else [])]  # fmt: skip

    @property
    def flags(self) -> list[str]:
        """The same for the command line."""
        return ["--split", self.split, *(f"--merge={each}" for each in self.merges),
                *(f"--without={each}" for each in self.without),
                *(["--shared"] if self.shared else [])]  # fmt: skip


@dataclass(frozen=True)
class Evaluated:
    """What the run was asked, and what it said.

    Attributes:
        dataset: folder of the pictures.
        info: what the data set says of itself.
        part: the pictures; labels are numbers of `classes`.
        classes: those of the run, some merged or left out where that was asked for.
        probabilities: float32 (n, classes).
        explained: int (n,), the run's own class whose heatmap explains an answer.
        told: float32 (n, 2), valence and arousal; (n, 0) where the run tells none.
    """

    dataset: Path
    info: "DatasetInfo"
    part: "Split"
    classes: list[str]
    probabilities: "np.ndarray"
    explained: "np.ndarray"
    told: "np.ndarray"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.evaluate")
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="folder of the run; several are compared")
    add("--data", metavar="DIR", help="prepared data set (default: the one of the run)")
    add("--split", default="test", choices=("train", "dev", "test"), help="default test")
    add("--merge", metavar="A+B", action="append", default=[], help="take classes for one, like "
        "anger+fear; may be repeated")  # fmt: skip
    add("--without", metavar="COLUMN=VALUE", action="append", default=[], help="leave out pictures "
        "of which the manifest says so; may be repeated")  # fmt: skip
    add("--shared", action="store_true", help="of a data set with other classes: take those that "
        "both know")  # fmt: skip
    add("--by", metavar="COLUMN", action="append", default=[], help="figures for each value of a "
        "column of the manifest, or by size or sharpness; may be repeated")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    part = Part(args.split, args.merge, args.without, args.shared)
    if len(args.runs) > 1:
        from deepconnotation import compare

        if args.data or args.by or part != Part(args.split, [], []):
            raise UserError("several runs are compared on what they were evaluated on before; only "
                            "--split goes with them")  # fmt: skip
        print(compare.as_markdown(compare.load(args.runs, _suffix(part.words))))
        return
    found = run.load(args.runs[0])
    found.need_net()
    if found.config["state"] == "diverged":
        raise UserError(f"{found.path} diverged ({found.config['diverged']}); it has no score")
    evaluate(found, Path(args.data or found.config["data"]["path"]), part, args.by)


def evaluate(
    found: run.Run, dataset: Path, what: Part = Part(), by: Sequence[str] = ()
) -> dict:  # fmt: skip
    """Predict a split, print and write the figures.

    Args:
        found: a run with a model.
        dataset: a prepared data set with the run's picture size, and its classes unless
            `what.shared`.
        what: which pictures and classes.
        by: columns for each of whose values figures are printed.

    Returns:
        What metrics.json holds: `metrics.summarise`'s figures, split, data set and date.

    Raises:
        UserError: when the data set does not fit the run.
    """
    from deepconnotation.data import manifest

    if found.multi_label and (what.merges or what.shared):
        raise UserError("--merge and --shared: probabilities of several labels cannot be added")
    if what.merges or what.shared or by:
        found.need_classes()
    fingerprint, info = manifest.fingerprint(dataset), manifest.read_info(dataset)
    own = fingerprint == found.config["data"]["fingerprint"]
    need_writable(found.path)
    part, classes, left_out = _load(found, info, dataset, what, own)
    answers, told = predict_split(found, part)
    probabilities = _into(answers, found, classes)
    explained = _explained(answers, probabilities.argmax(axis=1), _places(found.classes, classes))
    asked = Evaluated(dataset, info, part, classes, probabilities, explained, told)
    command = ["python", "-m", "deepconnotation.evaluate", str(found.path), "--data", str(dataset),
               *what.flags, *(f"--by={column}" for column in by)]  # fmt: skip
    summary = _summary(
        found, asked, by, split=what.split, data=str(dataset), fingerprint=fingerprint,
        left_out=left_out, command=shlex.join(command),
    )  # fmt: skip
    words = [*([] if own else [dataset.name]), *what.words]
    table = asked.part.table.assign(label=[classes[i] for i in part.labels])
    predictions = predictions_of(found, table, probabilities, classes, told).to_csv(index=False)
    write_atomic(found.path / f"predictions{_suffix(words)}.csv", predictions)
    # Only here: what does not fit is refused before Matplotlib is loaded.
    from deepconnotation import report, slices

    print(as_text(summary))
    if by:
        print(slices.as_text(summary["slices"]))
    alone = words == [what.split] and not (found.path / "metrics.json").exists()  # no test split
    page = report.write(found, summary, asked, "" if alone else _suffix(words))
    # The last one: whoever goes on after a stop takes it to mean that all the rest is there.
    write_atomic(found.path / f"metrics{_suffix(words)}.json", json.dumps(summary, indent=2) + "\n")
    print(f"report: {page}")
    return summary


def _summary(found: run.Run, asked: Evaluated, by: Sequence[str], **about) -> dict:
    """Return what metrics.json holds: `figures_of`, and those of groups."""
    from deepconnotation import slices

    part, classes, probabilities = asked.part, asked.classes, asked.probabilities
    cut = found.config.get("conformal_cut") if classes == found.classes else None
    summary = figures_of(
        found, part.table, part.labels, probabilities, classes, asked.told, found.temperature, cut,
        drawn=found.config["data"]["drawn"] or asked.info.drawn, **about,
    )  # fmt: skip
    if found.tells_classes:
        table, predicted = slices.measured(part), probabilities.argmax(axis=1)
        summary["slices"] = slices.summarise(table, part.labels, predicted, classes, by)
    return summary


def figures_of(
    found: run.Run, table: "pd.DataFrame", labels: "np.ndarray", probabilities: "np.ndarray",
    classes: Sequence[str], told: "np.ndarray", temperature: "float | np.ndarray",
    cut: "float | np.ndarray | None", **about,
) -> dict:  # fmt: skip
    """Return `about` and the figures of answers, of valence and arousal alone where the run learned
    them alone.

    Args:
        found: the run, or the cross-validation, that answered.
        table: of a manifest, whose pictures these are.
        labels: int (n,).
        probabilities: float (n, classes), at the temperature.
        classes: their names.
        told: float (n, 2), valence and arousal; (n, 0) where the run tells none.
        temperature: one for all, or float (n, 1) where several nets answered.
        cut: from which on a class belongs to the prediction set, likewise; None where there is
            none.
        about: the other fields of metrics.json.
    """
    from deepconnotation import affect, multilabel

    groups = table["group"].tolist()
    if told.size:
        about["affect"] = affect.summarise(affect.values(table), told, groups)
    if not found.tells_classes:
        return {**about, "date": run.now(), "images": len(groups)}
    majority = _majority(found, classes)
    summary = summarise(labels, probabilities, classes, majority, groups, **about)
    if not found.multi_label:
        return summary | _of_distributions(table, labels, probabilities, classes, temperature, cut)
    there, cuts = multilabel.present(table, classes), found.config["thresholds"]
    return {**summary, "multi_label": multilabel.figures(there, probabilities, cuts)}


def predictions_of(
    found: run.Run, table: "pd.DataFrame", probabilities: "np.ndarray", classes: Sequence[str],
    told: "np.ndarray",
) -> "pd.DataFrame":  # fmt: skip
    """Return what predictions.csv holds.

    Args:
        found: the run; of one that learned no classes there are valence and arousal alone.
        table: of a manifest, with labels of the classes.
        probabilities: float (n, classes).
        classes: their names.
        told: float (n, 2), valence and arousal; (n, 0) where the run tells none.
    """
    table = table[["id", "source", "group", "label"]]
    if found.tells_classes:
        table = prediction_table(table, probabilities, classes)
    else:
        table = table.map(spreadsheet_safe)
    table[list(found.axes)] = told.round(6)
    return table


def _explained(
    answers: "np.ndarray", predicted: "np.ndarray", places: list[int | None]
) -> "np.ndarray":
    """Return the run's own class behind each answer: the likeliest of those that were merged."""
    import numpy as np

    places = np.array([-1 if place is None else place for place in places])
    return np.where(places == predicted[:, None], answers, -1).argmax(axis=1)


def _suffix(words: Sequence[str]) -> str:
    return "".join("-" + re.sub(r"[^\w.+=]", "_", word) for word in words)


def _load(
    found: run.Run, info: "DatasetInfo", dataset: Path, what: Part, own: bool
) -> tuple["Split", list[str], dict[str, int]]:
    """Return the pictures, the classes that their labels number, and how many pictures were left
    out for which reason; of data that are not the run's own, what it has seen, too."""
    import numpy as np

    from deepconnotation import seen
    from deepconnotation.data import pipeline, split

    _check_fit(found, info, dataset, what.shared)
    classes = emotions.merged(found.classes, what.merges)
    part = pipeline.load(dataset, what.split, None if what.shared else classes)
    if what.shared:
        classes = _shared(classes, info.classes, dataset)
    keep, left_out = np.ones(len(part.labels), bool), {}

    def leave_out(gone: np.ndarray, reason: str) -> None:
        if (keep & gone).any():
            left_out[reason] = int((keep & gone).sum())
            keep[gone] = False

    if not own:
        leave_out(seen.among(part.table, seen.of(found)), "seen in training")
    for each in what.without:
        leave_out(split.matches(part.table, each, "--without").to_numpy(), each)
    if what.shared:
        known = emotions.places(classes)
        for label in dict.fromkeys(part.table["label"]):
            if label not in known:
                leave_out((part.table["label"] == label).to_numpy(), f"label {label}")
    if not keep.any():
        raise UserError(f"{dataset}: no picture of {what.split} would be left; left out: "
                        f"{reasons(left_out)}")  # fmt: skip
    if what.shared or left_out:
        table = part.table[keep].reset_index(drop=True)
        labels = np.array(emotions.numbered(table["label"], classes), np.int64)
        part = pipeline.Split(table, part.images if keep.all() else part.images[keep], labels)
    return part, classes, left_out


def reasons(left_out: dict[str, int]) -> str:
    """Return how many pictures were left out for which reason, in words; "" for none."""
    return ", ".join(f"{pictures} ({why})" for why, pictures in left_out.items())


def _shared(classes: Sequence[str], theirs: Sequence[str], dataset: Path) -> list[str]:
    """Return the classes that a data set has, too, under the same name or as a member."""
    found = [c for c in classes if set(c.split("+")) & set(theirs)]
    if len(found) < 2:
        raise UserError(f"--shared: {dataset} has the classes {', '.join(theirs)}; fewer than two "
                        f"are among {', '.join(classes)}")  # fmt: skip
    return found


def _of_distributions(
    table: "pd.DataFrame", labels: "np.ndarray", probabilities: "np.ndarray",
    classes: Sequence[str], temperature: "float | np.ndarray", cut: "float | np.ndarray | None",
) -> dict:  # fmt: skip
    """Return figures that only probabilities which sum to 1 have; see `figures_of`."""
    from deepconnotation import calibration, distribution

    figures = {"calibration": calibration.figures(labels, probabilities, temperature)}
    if cut is not None:
        figures["sets"] = calibration.set_figures(labels, probabilities, cut)
    if shares := distribution.of_answers(table, probabilities, classes):
        figures["distribution"] = shares
    return figures


def _check_fit(found: run.Run, info, dataset: Path, shared: bool) -> None:
    theirs = emotions.merged(info.classes, found.config.get("merge", []) if not shared else [])
    if theirs != found.classes and not shared:
        raise UserError(
            f"{dataset} has the classes {', '.join(info.classes)}; {found.path} was trained on "
            f"{', '.join(found.classes)}: --shared takes those that both know"
        )
    if (info.height, info.width) != found.size:
        raise UserError(
            f"{dataset} holds pictures of {info.height}x{info.width} pixels; {found.path} takes "
            f"{found.size[0]}x{found.size[1]}: prepare the data set again with --size"
        )


def _into(probabilities: "np.ndarray", found: run.Run, classes: list[str]) -> "np.ndarray":
    """Return (n, classes) for classes that are merged from the run's, or some of them."""
    import numpy as np

    if classes == found.classes:
        return probabilities
    into = np.zeros((len(found.classes), len(classes)), np.float32)
    for row, place in enumerate(_places(found.classes, classes)):
        if place is not None:
            into[row, place] = 1
    probabilities = probabilities @ into
    return probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)


def _majority(found: run.Run, classes: list[str]) -> int:
    """Return the commonest of some classes in the run's training split."""
    counts, totals = found.config["data"]["counts"]["train"], [0] * len(classes)
    for place, count in zip(_places(counts, classes), counts.values(), strict=True):
        if place is not None:
            totals[place] += count
    return totals.index(max(totals))


def _places(names: Iterable[str], classes: Sequence[str]) -> list[int | None]:
    """Return the place of each name, or of its first member, among classes; None for no place."""
    known = emotions.places(classes)
    return [known.get(name.partition("+")[0]) for name in names]


def predict_split(found: run.Run, part: "Split") -> tuple["np.ndarray", "np.ndarray"]:
    """Return float32 (n, classes), the probabilities of a split's pictures in its order, and
    float32 (n, 2), their valence and arousal; (n, 0) where the run does not tell them."""
    import numpy as np

    from deepconnotation.answer import answers_of
    from deepconnotation.data import pipeline

    answer, pairs = answers_of(found), []
    with progress("pictures", len(part.labels)) as advance:
        for images, _ in pipeline.batches(part, BATCH):
            pairs.append(answer(images))
            advance(len(images))
    log_p, told = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return np.exp(log_p), told


def summarise(
    labels: "np.ndarray", probabilities: "np.ndarray", classes: Sequence[str], majority: int,
    groups: list[str], **about,
) -> dict:  # fmt: skip
    """Return what metrics.json holds: `about`, the date, and `metrics.summarise`'s figures."""
    from deepconnotation import metrics

    predicted = probabilities.argmax(axis=1)
    return {**about, "date": run.now(), "majority_class": classes[majority],
            **metrics.summarise(labels, predicted, classes, majority, groups)}  # fmt: skip


def as_text(summary: dict) -> str:
    """Return the figures as an aligned table."""
    from deepconnotation import affect

    told = "accuracy" in summary  # else of valence and arousal alone
    majority = f", majority class {summary['majority_class']}" if told else ""
    lines = [f"{summary['split']}: {summary['images']} pictures{majority}"]
    if summary.get("left_out"):
        lines.append(f"left out: {reasons(summary['left_out'])}")
    if summary["drawn"]:
        lines.append("drawn pictures: not an emotion result")
    lines += _figures(summary) if told else []
    if "affect" in summary:
        lines.append(affect.as_text(summary["affect"]))
    return "\n".join(lines + (_per_class(summary) if told else []))


def _figures(summary: dict) -> list[str]:
    from deepconnotation import distribution, metrics, multilabel

    lines = [f"{'':20}{'value':>7}   {'95 % interval':15}{'majority':>9}"]
    for name in metrics.SCALARS:
        f = summary[name]
        interval = f"{f['low']:.3f} - {f['high']:.3f}"
        title = name.replace("_", " ")
        lines.append(f"{title:20}{f['value']:7.3f}   {interval:15}{f['majority']:9.3f}")
    for name, value in summary["geometry"].items():
        lines.append(f"{metrics.GEOMETRY[name]:20}{value:7.3f}")
    if "calibration" in summary:
        f = summary["calibration"]
        lines.append(f"calibration error{f['ece']:10.3f}   {f['ece_before']:.3f} before the "
                     f"temperature of {f['temperature']:.2f}; Brier {f['brier']:.3f}")  # fmt: skip
    if "sets" in summary:
        f = summary["sets"]
        lines.append(f"prediction sets{f['coverage']:12.3f}   of true classes are inside, "
                     f"{f['asked']:g} asked; {f['size']:.2f} classes a set")  # fmt: skip
    if "multi_label" in summary:
        lines += [f"{words:26}{summary['multi_label'][name]:.3f}"
                  for name, words in multilabel.FIGURES.items()]  # fmt: skip
    for name, value in summary.get("distribution", {}).items():
        lines.append(f"{distribution.FIGURES[name]:20}{value:7.3f}")
    return lines


def _per_class(summary: dict) -> list[str]:
    lines = [f"{'class':20}{'precision':>10}{'recall':>10}{'F1':>10}{'pictures':>10}"]
    for row in summary["per_class"]:
        cells = "".join(f"{'-' if row[k] is None else f'{row[k]:.3f}':>10}"
                        for k in ("precision", "recall", "f1"))  # fmt: skip
        lines.append(f"{row['class']:20}{cells}{row['images']:10}")
    if summary["absent_classes"]:
        lines.append(f"not in this split: {', '.join(summary['absent_classes'])}")
    return lines


if __name__ == "__main__":
    run_command(main)
