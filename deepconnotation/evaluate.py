"""Evaluate a run on a split of a prepared data set.

    python -m deepconnotation.evaluate snapshots/faces
    python -m deepconnotation.evaluate snapshots/faces --split dev
    python -m deepconnotation.evaluate snapshots/fi --merge anger+fear

Prints the figures with 95 % bootstrap intervals beside the majority baseline; writes metrics.json,
predictions.csv and report.html into the run folder (for another split than test, or with classes
merged, metrics-WHAT.json and predictions-WHAT.csv).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import emotions, run
from deepconnotation.console import UserError, argument_parser, run_command, write_atomic

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from deepconnotation.data.pipeline import Split

BATCH = 256


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.evaluate")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("--data", metavar="DIR", help="prepared data set (default: the one of the run)")
    add("--split", default="test", choices=("train", "dev", "test"), help="default test")
    add("--merge", metavar="A+B", action="append", default=[], help="take classes for one, like "
        "anger+fear; may be repeated")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    found = run.load(args.run)
    if found.config["state"] == "diverged":
        raise UserError(f"{args.run} diverged ({found.config['diverged']}); it has no score")
    evaluate(found, Path(args.data or found.config["data"]["path"]), args.split, args.merge)


def evaluate(
    found: run.Run, dataset: Path, split: str = "test", merges: Sequence[str] = ()
) -> dict:
    """Predict a whole split, print and write the figures.

    Args:
        found: a run with a model.
        dataset: a prepared data set with the run's classes and picture size.
        split: "train", "dev" or "test".
        merges: classes to be taken for one; their probabilities are added.

    Returns:
        What metrics.json holds: `metrics.summarise`'s figures, split, data set and date.

    Raises:
        UserError: when the data set does not fit the run.
    """
    from deepconnotation import affect, multilabel
    from deepconnotation.data import manifest, pipeline

    _check_fit(found, manifest.read_info(dataset), dataset)
    if found.multi_label and merges:
        raise UserError("--merge: probabilities of several labels cannot be added")
    classes = emotions.merged(found.classes, merges)
    part = pipeline.load(dataset, split, classes)
    probabilities, told = predict_split(found, part)
    probabilities = _merge(probabilities, found, classes)
    groups = part.table["group"].tolist()
    summary = summarise(
        part.labels, probabilities, classes, _majority(found, classes), groups, split=split,
        data=str(dataset), fingerprint=manifest.fingerprint(dataset),
        drawn=found.config["data"]["drawn"],
    )  # fmt: skip
    if told.size:
        summary["affect"] = affect.summarise(affect.values(part.table), told, groups)
    if found.multi_label:
        there, cuts = multilabel.present(part.table, classes), found.config["thresholds"]
        summary["multi_label"] = multilabel.figures(there, probabilities, cuts)
    else:
        summary |= _of_distributions(found, part, classes, probabilities)
    suffix = "".join(f"-{word}" for word in (*([] if split == "test" else [split]), *merges))
    write_atomic(found.path / f"metrics{suffix}.json", json.dumps(summary, indent=2) + "\n")
    table = part.table[["id", "source", "group", "label"]]
    table = prediction_table(table, probabilities, classes)
    if told.size:
        table[list(affect.NAMES)] = told.round(6)
    write_atomic(found.path / f"predictions{suffix}.csv", table.to_csv(index=False))
    print(as_text(summary))
    if not merges and (split == "test" or not (found.path / "metrics.json").exists()):
        from deepconnotation import report

        print(f"report: {report.write(found, summary, part, probabilities, told)}")
    return summary


def _of_distributions(
    found: run.Run, part: "Split", classes: list[str], probabilities: "np.ndarray"
) -> dict:
    """Return figures that only probabilities which sum to 1 have, for metrics.json."""
    import numpy as np

    from deepconnotation import calibration, distribution

    labels = part.labels
    figures = {"calibration": calibration.figures(labels, probabilities, found.temperature)}
    if "conformal_cut" in found.config and classes == found.classes:
        cut = found.config["conformal_cut"]
        figures["sets"] = calibration.set_figures(labels, probabilities, cut)
    shares = distribution.shares(part.table, classes)
    known = np.isfinite(shares).all(axis=1)
    if known.any():
        figures["distribution"] = distribution.figures(shares[known], probabilities[known])
    return figures


def _check_fit(found: run.Run, info, dataset: Path) -> None:
    if emotions.merged(info.classes, found.config.get("merge", [])) != found.classes:
        raise UserError(
            f"{dataset} has the classes {', '.join(info.classes)}; {found.path} was trained on "
            f"{', '.join(found.classes)}"
        )
    if (info.height, info.width) != found.size:
        raise UserError(
            f"{dataset} holds pictures of {info.height}x{info.width} pixels; {found.path} takes "
            f"{found.size[0]}x{found.size[1]}: prepare the data set again with --size"
        )


def _merge(probabilities: "np.ndarray", found: run.Run, classes: list[str]) -> "np.ndarray":
    """Return (n, merged classes), the sums of their members' probabilities."""
    import numpy as np

    into = np.eye(len(classes), dtype=np.float32)[emotions.numbered(found.classes, classes)]
    return probabilities @ into


def _majority(found: run.Run, classes: list[str]) -> int:
    counts, totals = found.config["data"]["counts"]["train"], [0] * len(classes)
    for place, count in zip(emotions.numbered(counts, classes), counts.values(), strict=True):
        totals[place] += count
    return totals.index(max(totals))


def predict_split(found: run.Run, part: "Split") -> tuple["np.ndarray", "np.ndarray"]:
    """Return float32 (n, classes), the probabilities of a split's pictures in its order, and
    float32 (n, 2), their valence and arousal; (n, 0) where the run does not tell them."""
    import numpy as np

    from deepconnotation.answer import answers
    from deepconnotation.data import pipeline

    answer = answers(found.model, found.test_flip, found.multi_label, found.temperature)
    pairs = zip(*(answer(images) for images, _ in pipeline.batches(part, BATCH)), strict=True)
    log_p, told = (np.concatenate(each) for each in pairs)
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


def prediction_table(
    table: "pd.DataFrame", probabilities: "np.ndarray", classes: Sequence[str]
) -> "pd.DataFrame":
    """Return a table with predicted, confidence and p_CLASS beside its own columns of text."""
    import pandas as pd

    best = probabilities.argmax(axis=1)
    table = table.reset_index(drop=True).map(spreadsheet_safe)
    columns = {f"p_{c}": probabilities[:, i].round(6) for i, c in enumerate(classes)}
    return table.assign(
        predicted=[classes[i] for i in best], confidence=probabilities.max(axis=1).round(6),
    ).join(pd.DataFrame(columns))  # fmt: skip


def spreadsheet_safe(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def as_text(summary: dict) -> str:
    """Return the figures as an aligned table."""
    from deepconnotation import affect, distribution, metrics, multilabel

    lines = [f"{summary['split']}: {summary['images']} pictures, majority class "
             f"{summary['majority_class']}"]  # fmt: skip
    if summary["drawn"]:
        lines.append("drawn pictures: not an emotion result")
    lines.append(f"{'':20}{'value':>7}   {'95 % interval':15}{'majority':>9}")
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
    if "affect" in summary:
        lines.append(affect.as_text(summary["affect"]))
    lines.append(f"{'class':20}{'precision':>10}{'recall':>10}{'F1':>10}{'pictures':>10}")
    for row in summary["per_class"]:
        cells = "".join(f"{'-' if row[k] is None else f'{row[k]:.3f}':>10}"
                        for k in ("precision", "recall", "f1"))  # fmt: skip
        lines.append(f"{row['class']:20}{cells}{row['images']:10}")
    if summary["absent_classes"]:
        lines.append(f"not in this split: {', '.join(summary['absent_classes'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
