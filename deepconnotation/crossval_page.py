"""The figures of a cross-validation, of all folds' answers together, and their page."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepconnotation import card, evaluate, predictions, report, run, slices
from deepconnotation.backend import device_name
from deepconnotation.compare import mean_and_spread
from deepconnotation.console import write_atomic
from deepconnotation.data import manifest, pipeline
from deepconnotation.emotions import numbered
from deepconnotation.metrics import SCALARS, with_interval
from deepconnotation.page import escape, page, section, table


@dataclass(frozen=True)
class Answers:
    """What the folds' nets said of all pictures, by their ids.

    Attributes:
        table: rows of the data set's manifest, their labels merged where the nets' classes are.
        labels: int (n,), the same as numbers of the classes.
        probabilities: float (n, classes), at each net's temperature.
        told: float (n, 2), valence and arousal; (n, 0) where the nets tell none.
        temperature: float (n, 1), of the net that answered.
        cut: float (n, 1), from which on a class belongs to its prediction sets.
    """

    table: pd.DataFrame
    labels: np.ndarray
    probabilities: np.ndarray
    told: np.ndarray
    temperature: np.ndarray
    cut: np.ndarray


def write(found: run.Run, dataset: Path) -> dict:
    """Put the folds' answers together: predictions.csv, metrics.json and report.html.

    The intervals are of bootstrap draws of all pictures (of whole groups, where those are known).
    They do not show how far other nets of the same recipe would differ; the folds' spread does.

    Args:
        found: the cross-validation, every fold of which was evaluated.
        dataset: whose pictures were divided.

    Returns:
        What metrics.json holds: as for a run, and "folds", for each its number of pictures,
        `metrics.SCALARS` and the CCC of valence and arousal, as far as the nets tell them.
    """
    runs = [run.load(found.path / f"fold-{fold}") for fold in range(1, found.config["folds"] + 1)]
    every = _answers(found, runs, dataset)
    summary = _summary(found, runs, every, dataset)
    said = evaluate.predictions_of(found, every.table, every.probabilities, found.classes,
                                   every.told)  # fmt: skip
    write_atomic(found.path / "predictions.csv", said.to_csv(index=False))
    write_atomic(found.path / "metrics.json", json.dumps(summary, indent=2) + "\n")
    found = found.update(train_seconds=sum(each.config.get("train_seconds", 0) for each in runs))
    write_atomic(found.path / "report.html", _page(found, summary, every, dataset))
    print(evaluate.as_text(summary))
    for name, words in _spreads(summary).items():
        print(f"{name.replace('_', ' ')}, mean ± s.d. of {len(runs)} folds: {words}")
    print(f"report: {found.path / 'report.html'}")
    return summary


def _answers(found: run.Run, runs: list[run.Run], dataset: Path) -> Answers:
    hint = "give the same command of crossval again"
    columns = [*(f"p_{name}" for name in found.told_classes), *found.axes]
    parts = []
    for each in runs:
        part = predictions.read(each.path / "predictions.csv", ["id", "label", *columns], hint)
        parts.append(part.assign(temperature=each.temperature, cut=each.config["conformal_cut"]))
    said = pd.concat(parts).sort_values("id", ignore_index=True)
    table = manifest.read(dataset).sort_values("id", ignore_index=True)
    values = said[columns].astype(float).to_numpy()
    told = len(found.axes)
    return Answers(
        table.assign(label=said["label"]), np.array(numbered(said["label"], found.classes)),
        values[:, : len(columns) - told], values[:, len(columns) - told :],
        said[["temperature"]].to_numpy(), said[["cut"]].to_numpy(),
    )  # fmt: skip


def _summary(found: run.Run, runs: list[run.Run], every: Answers, dataset: Path) -> dict:
    data = found.config["data"]
    folds = [json.loads((each.path / "metrics.json").read_text("utf-8")) for each in runs]
    summary = evaluate.figures_of(
        found, every.table, every.labels, every.probabilities, found.classes, every.told,
        every.temperature, every.cut,
        split="all folds", data=str(dataset), fingerprint=data["fingerprint"],
        command=found.config["command"], drawn=data["drawn"], left_out={},
        folds=[{"pictures": each["images"], **_compared(each)} for each in folds],
    )  # fmt: skip
    if found.tells_classes:
        tested = (pipeline.load(found.path / f"data-{n}", "test") for n in range(1, len(runs) + 1))
        table = pd.concat(map(slices.measured, tested)).sort_values("id", ignore_index=True)
        predicted = every.probabilities.argmax(axis=1)
        summary["slices"] = slices.summarise(table, every.labels, predicted, found.classes)
    return summary


def _compared(figures: dict) -> dict[str, dict]:
    """Return what of a net's metrics.json its fold is told by, each with an interval."""
    told = {f"{name}_CCC": f["ccc"] for name, f in figures.get("affect", {}).items() if "ccc" in f}
    return {**{name: figures[name] for name in SCALARS if name in figures}, **told}


def _spreads(summary: dict) -> dict[str, str]:
    """Return mean and spread of each figure that all folds have."""
    folds = summary["folds"]
    return {
        name: mean_and_spread([fold[name]["value"] for fold in folds])
        for name in folds[0] if name != "pictures" and all(name in fold for fold in folds)
    }  # fmt: skip


def _page(found: run.Run, summary: dict, every: Answers, dataset: Path) -> str:
    config = found.config
    facts = [
        ["name", config["data"]["name"]], ["label set", config["emotion_set"]],
        ["pictures", card.pictures(config)], ["licence", config["data"]["licence"]],
        ["manifest", f"sha256 {summary['fingerprint'][:16]}"],
    ]  # fmt: skip
    versions = ", ".join(f"{k} {v}" for k, v in config["versions"].items())
    repeat = [
        ["training time", f"{config['train_seconds'] / 60:.1f} minutes in all"],
        ["machine", device_name()], ["versions", versions],
        ["source revision", config["git"] or "unknown"], ["evaluated", summary["date"]],
    ]  # fmt: skip
    title = f"{config['arch']} on {config['data']['name']}, {config['folds']} folds"
    return page(title, [
        f"<p>{escape(card.question(config))}</p>",
        _headline(summary) if found.tells_classes else report.affect_headline(summary),
        # Its pictures are on the folds' pages; that they are drawn must be said here, too.
        report.notices(summary, manifest.read_info(dataset), pictures=False),
        section("Folds", _folds(summary)),
        *(report.of_classes(summary, found.classes, every.probabilities, every.labels)
          if found.tells_classes else []),
        *([section("Valence and arousal", report.circumplex(summary, every.table, every.told))]
          if every.told.size else []),
        *([section("Groups", report.groups(summary))] if found.tells_classes else []),
        section("Data", table([], facts, text=True)),
        section("How to repeat it",
                f"<pre>{escape(config['command'])}</pre>{table([], repeat, text=True)}"),
        section("Use", _use(found)),
        section("Limits", report.limits(summary)),
    ])  # fmt: skip


def _headline(summary: dict) -> str:
    f = summary["accuracy"]
    return (
        f'<p class="headline">Accuracy {with_interval(f)} on {summary["images"]:,} pictures, each '
        f"answered by the one of {len(summary['folds'])} nets that had not learned from it; always "
        f"answering {escape(summary['majority_class'])} would give {f['majority']:.3f}.</p>"
    )


def _folds(summary: dict) -> str:
    pages = ", ".join(f'<a href="fold-{number}/report.html">{number}</a>'
                      for number in range(1, len(summary["folds"]) + 1))  # fmt: skip
    words = ("<p>Each fold's pictures were answered by a net that learned from the others and was "
             "chosen by the next fold; its own report shows its curves and more: fold "
             f"{pages}. What dev chooses, temperature and prediction sets, is each net's own. The "
             "spread holds both the nets' and the pictures' chance.</p>")  # fmt: skip
    spreads = _spreads(summary)
    header = ["fold", "pictures", *(name.replace("_", " ") for name in spreads)]
    rows = [
        [number, fold["pictures"], *(with_interval(fold[name]) for name in spreads)]
        for number, fold in enumerate(summary["folds"], 1)
    ]  # fmt: skip
    rows.append(["mean ± s.d.", "", *spreads.values()])
    return words + table(header, rows)


def _use(found: run.Run) -> str:
    """Return which net answers pictures of the reader's own, and what it is good for."""
    net = shlex.quote(str(found.path / "fold-1"))
    return (
        "<p>Each fold's net is a run like any other: <code>python -m deepconnotation.predict "
        f"{escape(net)} photo.jpg</code>. None of them has learned from its test and dev folds. "
        "For a single net give train the same flags without <code>--folds</code>: it learns from "
        "the data set's own training split, and the figures above say what to expect of it.</p>"
        + report.uses(found.config)
    )
