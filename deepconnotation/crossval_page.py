"""The figures of a cross-validation, of all folds' answers together, and their page."""

import json
from pathlib import Path

import pandas as pd

from deepconnotation import card, evaluate, predictions, report, run
from deepconnotation.backend import device_name
from deepconnotation.compare import mean_and_spread
from deepconnotation.console import write_atomic
from deepconnotation.data import manifest
from deepconnotation.emotions import numbered
from deepconnotation.metrics import SCALARS, with_interval
from deepconnotation.page import escape, page, section, table


def write(found: run.Run, dataset: Path) -> dict:
    """Put the folds' answers together: predictions.csv, metrics.json and report.html.

    The intervals are of bootstrap draws of all pictures (of whole groups, where those are known).
    They do not show how far other nets of the same recipe would differ; the folds' spread does.

    Args:
        found: the cross-validation, every fold of which was evaluated.
        dataset: whose pictures were divided.

    Returns:
        What metrics.json holds: as for a run, and "folds", for each its number of pictures and
        `metrics.SCALARS`.
    """
    folders = [found.path / f"fold-{fold}" for fold in range(1, found.config["folds"] + 1)]
    classes = found.classes
    shown, answers = ["id", "source", "group", "label"], [f"p_{name}" for name in classes]
    hint = "give the same command of crossval again"
    answered = pd.concat(
        [predictions.read(folder / "predictions.csv", [*shown, *answers], hint)
         for folder in folders]
    ).sort_values("id", ignore_index=True)  # fmt: skip
    probabilities = answered[answers].astype(float).to_numpy()
    counts = found.config["data"]["counts"]["train"]
    folds = [json.loads((folder / "metrics.json").read_text("utf-8")) for folder in folders]
    summary = evaluate.summarise(
        numbered(answered["label"], classes), probabilities, classes,
        classes.index(max(counts, key=counts.get)), answered["group"].tolist(),
        split="all folds", data=str(dataset), fingerprint=found.config["data"]["fingerprint"],
        command=found.config["command"], drawn=found.config["data"]["drawn"], left_out={},
        folds=[{"pictures": each["images"], **{name: each[name] for name in SCALARS}}
               for each in folds],
    )  # fmt: skip
    told = predictions.prediction_table(answered[shown], probabilities, classes)
    write_atomic(found.path / "predictions.csv", told.to_csv(index=False))
    write_atomic(found.path / "metrics.json", json.dumps(summary, indent=2) + "\n")
    seconds = sum(run.load(folder).config.get("train_seconds", 0) for folder in folders)
    found = found.update(train_seconds=seconds)
    write_atomic(found.path / "report.html", _page(found, summary, dataset))
    print(evaluate.as_text(summary))
    for name in SCALARS:
        print(f"{name.replace('_', ' ')}, mean ± s.d. of {len(folds)} folds: "
              f"{_spread(summary, name)}")  # fmt: skip
    print(f"report: {found.path / 'report.html'}")
    return summary


def _spread(summary: dict, name: str) -> str:
    return mean_and_spread([fold[name]["value"] for fold in summary["folds"]])


def _page(found: run.Run, summary: dict, dataset: Path) -> str:
    config = found.config
    f = summary["accuracy"]
    headline = (
        f'<p class="headline">Accuracy {with_interval(f)} on {summary["images"]:,} pictures, each '
        f"answered by the one of {config['folds']} nets that had not learned from it; always "
        f"answering {escape(summary['majority_class'])} would give {f['majority']:.3f}.</p>"
    )
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
        headline,
        # Its pictures are on the folds' pages; that they are drawn must be said here, too.
        *([report.notices(summary, manifest.read_info(dataset))] if summary["drawn"] else []),
        section("Figures", report.figures(summary)),
        section("Folds", _folds(summary)),
        section("Per class", report.per_class(summary)),
        section("Confusion matrix", report.confusion(summary, found.classes)),
        section("Data", table([], facts, text=True)),
        section("How to repeat it",
                f"<pre>{escape(config['command'])}</pre>{table([], repeat, text=True)}"),
    ])  # fmt: skip


def _folds(summary: dict) -> str:
    words = ("<p>Each fold's pictures were answered by a net that learned from the others and was "
             "chosen by the next fold; its own report shows curves, calibration and examples. The "
             "spread holds both the nets' and the pictures' chance.</p>")  # fmt: skip
    header = ["fold", "pictures", *(name.replace("_", " ") for name in SCALARS), ""]
    rows = [
        [number, fold["pictures"], *(with_interval(fold[name]) for name in SCALARS),
         f"fold-{number}/report.html"]
        for number, fold in enumerate(summary["folds"], 1)
    ]  # fmt: skip
    rows.append(["mean ± s.d.", "", *(_spread(summary, name) for name in SCALARS), ""])
    return words + table(header, rows)
