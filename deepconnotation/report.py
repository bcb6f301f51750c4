"""One self-contained page a run: what was trained, on what, how well, and where it is wrong."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, MaxNLocator

from deepconnotation import affect, card, heatmap
from deepconnotation.console import write_atomic
from deepconnotation.data import audit_page
from deepconnotation.data.audit import Findings
from deepconnotation.data.manifest import DatasetInfo
from deepconnotation.data.prepare import rejection_counts
from deepconnotation.distribution import FIGURES
from deepconnotation.evaluate import Evaluated, reasons
from deepconnotation.metrics import GEOMETRY, SCALARS, with_interval
from deepconnotation.models import figure
from deepconnotation.multilabel import FIGURES as SEVERAL
from deepconnotation.page import escape, figure_image, number, page, section, strip, table
from deepconnotation.run import Run, tells_classes
from deepconnotation.seen import data_sets

RIGHT, ERRORS = 8, 16
BLUE, ORANGE, GREY = "#2b5d9b", "#c8601a", "#777777"


def write(found: Run, summary: dict, asked: Evaluated, suffix: str = "") -> Path:
    """Write report.html and card.md into the run folder; with a suffix, the page alone.

    Args:
        found: the run.
        summary: as `evaluate.evaluate` makes it.
        asked: the pictures and the answers.
        suffix: of the page's name, where it is not about the run's own test split.

    Returns:
        The page's path.
    """
    config = found.config
    title = f"{config['arch']} on {config['data']['name']}"
    parts = [
        f"<p>{escape(card.question(config))}</p>",
        _headline(summary) if found.tells_classes else affect_headline(summary),
        notices(summary, asked.info, found.tells_classes),
        *([section("Evaluated pictures", _evaluated(summary, asked))] if suffix else []),
        *(of_classes(summary, asked.classes, asked.probabilities, asked.part.labels)
          if found.tells_classes else []),
        *([section("Valence and arousal", circumplex(summary, asked.part.table, asked.told))]
          if asked.told.size else []),
        *([section("Groups", groups(summary))] if found.tells_classes else []),
        section("Training", _curves(found)),
        section("Model", _model(found)),
        *([section("Examples", _examples(found, asked))] if found.tells_classes else []),
        section("Data it was trained on" if suffix else "Data", _data(config, found.classes)),
        section("Audit of the evaluated data" if suffix else "Audit of the data",
                _audit(asked.dataset)),
        section("How to repeat it", _repeat(config, summary)),
        section("Use", f"{uses(config)}<p>The same is in <code>card.md</code>, to go with the "
                "model.</p>"),
        section("Limits", limits(summary)),
    ]  # fmt: skip
    path = found.path / f"report{suffix}.html"
    write_atomic(path, page(title + suffix.replace("-", ", ", 1), parts))
    if not suffix:
        card.write(found, summary)
    return path


def _headline(summary: dict) -> str:
    f = summary["accuracy"]
    return (
        f'<p class="headline">Accuracy {f["value"]:.3f} (95 % interval {f["low"]:.3f} to '
        f"{f['high']:.3f}) on {summary['images']:,} {escape(summary['split'])} pictures; always "
        f"answering {escape(summary['majority_class'])} would give {f['majority']:.3f}.</p>"
    )


def affect_headline(summary: dict) -> str:
    """Return the figures of a run that tells valence and arousal alone, as a sentence."""
    words = ", ".join(f"{name} {with_interval(f['ccc'])}"
                      for name, f in summary["affect"].items() if f["pictures"])  # fmt: skip
    return (f'<p class="headline">Concordance (CCC) on {summary["images"]:,} pictures '
            f"({escape(summary['split'])}): {words}; a constant answer has 0.</p>")  # fmt: skip


def of_classes(
    summary: dict, classes: list[str], probabilities: np.ndarray, labels: np.ndarray
) -> list[str]:
    """Return the sections about classes: figures, each class, confusion matrix, calibration."""
    parts = [
        section("Figures", _figures(summary)),
        section("Per class", _per_class(summary)),
        section("Confusion matrix", _confusion(summary, classes)),
    ]
    if "calibration" in summary:
        parts.append(section("Calibration", _calibration(summary, probabilities, labels)))
    return parts


def notices(summary: dict, info: DatasetInfo, pictures: bool) -> str:
    """Return what a reader must know first: that pictures are drawn, or whose those on the page
    are."""
    if summary["drawn"]:
        text = ("These pictures were drawn by the program to show how it works. "
                "Nothing here is a result about emotions.")  # fmt: skip
    elif not pictures:
        return ""
    else:
        text = ("This page contains pictures of the data set; check its licence before you "
                f"publish the page (licence: {info.licence}).")  # fmt: skip
    return f'<p class="notice">{escape(text)}</p>'


def _evaluated(summary: dict, asked: Evaluated) -> str:
    """Return which pictures a page is about that is not about the run's own test split."""
    counts = np.bincount(asked.part.labels, minlength=len(asked.classes))
    facts = [
        ["data set", str(asked.dataset)], ["name", asked.info.name],
        ["left out", reasons(summary["left_out"]) or "nothing"], ["licence", asked.info.licence],
        ["manifest", f"sha256 {summary['fingerprint'][:16]}"],
        ["command", summary["command"]],
    ]  # fmt: skip
    row = [summary["split"], *counts, counts.sum()]
    return table(["split", *asked.classes, "all"], [row]) + table([], facts, text=True)


def _figures(summary: dict) -> str:
    """Return the table of the figures of all pictures, as `evaluate.summarise` makes them."""
    rows = []
    for name in SCALARS:
        f = summary[name]
        rows.append([
            name.replace("_", " "), number(f["value"]),
            f"{f['low']:.3f} to {f['high']:.3f}", number(f["majority"]),
        ])  # fmt: skip
    for name, value in summary["geometry"].items():
        rows.append([GEOMETRY[name], number(value), "", ""])
    several = summary.get("multi_label")
    rows += [[words, number(several[key]), "", ""] for key, words in SEVERAL.items() if several]
    for name, value in summary.get("distribution", {}).items():
        rows.append([f"{FIGURES[name]}, to the viewers' shares", number(value), "", ""])
    return table(["", "value", "95 % interval", "majority baseline"], rows) + _geometry(summary)


def _geometry(summary: dict) -> str:
    words = []
    if "polarity_accuracy" in summary["geometry"]:
        words.append("Polarity accuracy counts an answer as right when it is as pleasant or "
                     "unpleasant as the label.")  # fmt: skip
    if "emc" in summary["geometry"]:
        words.append("ECC (emotion confusion confidence) is the mean distance on Mikels' wheel "
                     "from label to answer, 1 where they agree, with 3 more where one is pleasant "
                     "and the other is not; EMC is the same over the errors alone, less 1."
                     )  # fmt: skip
    return f"<p>{escape(' '.join(words))}</p>" if words else ""


def _per_class(summary: dict) -> str:
    """Return the table of the figures a class."""
    rows = [[r["class"], *(number(r[k]) for k in ("precision", "recall", "f1")), r["images"]]
            for r in summary["per_class"]]  # fmt: skip
    return table(["class", "precision", "recall", "F1", "pictures"], rows)


def _confusion(summary: dict, classes: list[str]) -> str:
    """Return the figure of the confusion matrix."""
    counts = np.array(summary["confusion_matrix"])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.62 * len(classes)
    figure = Figure(figsize=(side + 0.8, side))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.55 else "#222222"
        text = f"{100 * share[row, column]:.0f} %\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    best = ", ".join(f"{c} {100 * share[i, i]:.0f} %" for i, c in enumerate(classes))
    words = "<p>Each row sums to 100 % of the pictures of a true class; below, their number.</p>"
    image = figure_image(figure, f"Confusion matrix; right answers a class: {best}")
    return f'{words}<div class="confusion">{image}</div>'


def _calibration(summary: dict, probabilities: np.ndarray, labels: np.ndarray) -> str:
    """Return how far the probabilities can be believed, in words and figures."""
    f = summary["calibration"]
    words = (f"Of answers given with 70 % confidence, 70 % should be right. The mean gap "
             f"(ECE, 15 bins) is {number(f['ece'])}; without the temperature of "
             f"{f['temperature']:.2f}, fitted on the dev split, it would be "
             f"{number(f['ece_before'])}. Brier score {number(f['brier'])}.")  # fmt: skip
    if "sets" in summary:
        s = summary["sets"]
        words += (f" Sets of classes made to hold the true one {100 * s['asked']:.0f} % of the "
                  f"time hold it {100 * s['coverage']:.1f} % of the time here, with "
                  f"{s['size']:.2f} classes on average.")  # fmt: skip
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    kept = np.arange(1, len(order) + 1)
    figure = Figure(figsize=(9, 3.6))
    left, other = figure.subplots(1, 2)
    confidence, share, counts = (np.array(column) for column in zip(*f["reliability"], strict=True))
    left.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    left.scatter(confidence, share, s=6 + 120 * counts / counts.max(), color=BLUE, clip_on=False)
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers",
             title="reliability; larger dots hold more pictures")  # fmt: skip
    other.plot(kept / len(order), np.cumsum(right[order]) / kept, color=BLUE)
    other.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of pictures answered, the surest first",
              ylabel="accuracy of these", title="abstention")  # fmt: skip
    for axes in (left, other):
        axes.spines[["top", "right"]].set_visible(False)
    alt = f"Reliability diagram, calibration error {f['ece']:.3f}, and accuracy by share answered"
    return f"<p>{escape(words)}</p>" + figure_image(figure, alt)


def circumplex(summary: dict, rated: pd.DataFrame, told: np.ndarray) -> str:
    """Return the figures of valence and arousal, and where the pictures of a manifest stand."""
    rows = [
        [name, *(with_interval(figures[k]) for k in affect.FIGURES), figures["pictures"]]
        for name, figures in summary["affect"].items() if figures["pictures"]
    ]  # fmt: skip
    words = ("<p>Both lie between -1 and 1. CCC is the concordance correlation (1 is perfect, 0 "
             "is no better than a constant), RMSE the root mean squared error, SAGR the share of "
             "equal signs; 95 % intervals.</p>")  # fmt: skip
    figure = Figure(figsize=(9, 4.6))
    for axes, points, title in zip(
        figure.subplots(1, 2), (affect.values(rated), told), ("rated", "predicted"),
        strict=True,
    ):  # fmt: skip
        axes.add_patch(Circle((0, 0), 1, fill=False, color=GREY, linewidth=0.8))
        axes.axhline(0, color=GREY, linewidth=0.5)
        axes.axvline(0, color=GREY, linewidth=0.5)
        for index, name in enumerate(dict.fromkeys(rated["label"])):
            own = points[(rated["label"] == name).to_numpy()]
            axes.scatter(*own.T, s=9, alpha=0.7, color=f"C{index % 10}", label=name,
                         rasterized=True)  # fmt: skip
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", title=title,
                 xlabel="valence", ylabel="arousal")  # fmt: skip
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=6, frameon=False)
    figure.subplots_adjust(bottom=0.22)
    alt = "Where the pictures stand on the circumplex, as rated and as predicted"
    header = ["", *(k.upper() for k in affect.FIGURES), "pictures"]
    return words + table(header, rows) + figure_image(figure, alt)


def groups(summary: dict) -> str:
    """Return the figures of parts, of the summary's "slices"."""
    words = ("<p>Where a group does much worse, the figures above do not hold for it; where always "
             "answering its commonest class does nearly as well, the model may have learned the "
             "group instead of the emotion.</p>")  # fmt: skip
    header = ["", "pictures", "accuracy", "balanced accuracy", "its commonest class"]
    tables = []
    for name, rows in summary["slices"].items():
        cells = [
            [row["value"], row["images"], with_interval(row["accuracy"]),
             with_interval(row["balanced_accuracy"]), number(row["commonest"])] for row in rows
        ]  # fmt: skip
        tables.append(f"<h3>By {escape(name)}</h3>{table(header, cells)}")
    return words + "".join(tables)


def _curves(found: Run) -> str:
    path = found.path / "history.csv"
    if "members" in found.config:
        return "<p>Each member was trained on its own; the curves are in its folder.</p>"
    if not path.exists():
        return "<p>No history was kept.</p>"
    history = pd.read_csv(path)
    marker = "o" if len(history) == 1 else ""  # one epoch makes no line
    figure = Figure(figsize=(9, 3.2))
    second = "accuracy" if found.tells_classes else "ccc"
    for axes, name in zip(figure.subplots(1, 2), ("loss", second), strict=True):
        if name in history:  # the CCC is of dev alone
            axes.plot(history["epoch"], history[name], color=BLUE, marker=marker, label="training")
        if f"val_{name}" in history:
            axes.plot(history["epoch"], history[f"val_{name}"], color=ORANGE, marker=marker,
                      label="dev")  # fmt: skip
        if best := found.config.get("best_epoch"):
            axes.axvline(best, color=GREY, linestyle=":", label=f"kept: epoch {best}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_title(name)
        if name == "loss":
            axes.set_yscale("log")  # one bad early epoch would flatten all the others
            low, high = axes.get_ylim()
            wide = LogLocator(subs=(1, 2, 5))
            narrow = MaxNLocator(5, steps=[1, 2, 5, 10])
            axes.yaxis.set_major_locator(wide if high > 4 * low else narrow)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    alt = f"Loss and {second} by epoch"
    if found.tells_classes:
        alt += f"; at the end training accuracy {history['accuracy'].iloc[-1]:.3f}"
    note = ("<p>The training loss includes regularisation and is taken on augmented pictures with "
            "dropout, so it may lie above the dev loss.</p>")  # fmt: skip
    return figure_image(figure, alt) + note


def _model(found: Run) -> str:
    names = ", ".join(
        f"{name} with {parameters:,} parameters"
        for name, _, _, parameters in figure.stages(found.model) if parameters
    )  # fmt: skip
    return figure_image(figure.draw(found.model), f"The stages of {found.model.name}: {names}")


def _examples(found: Run, asked: Evaluated) -> str:
    """Return the surest right and wrong answers, each beside where the net looked."""
    part, probabilities = asked.part, asked.probabilities
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = predicted[order] == part.labels[order]
    maps = heatmap.grad_cam(found.model)
    parts = ["<p>The brighter, the more a place speaks for the answer (Grad-CAM). <code>python -m "
             f"deepconnotation.explain {escape(found.path)}</code> checks it by covering the "
             "pictures part by part.</p>"]  # fmt: skip
    for title, chosen, most in (("right answers", order[right], RIGHT),
                                ("errors", order[~right], ERRORS)):  # fmt: skip
        parts.append(f"<h3>Most confident {title}</h3>")
        chosen = chosen[:most]
        if not len(chosen):
            parts.append("<p>There are none.</p>")
            continue
        images = np.asarray(part.images[chosen])
        shown = maps(images, asked.explained[chosen])
        for i, image, values in zip(chosen, images, shown, strict=True):
            true, answer = asked.classes[part.labels[i]], asked.classes[predicted[i]]
            words = answer if true == answer else f"{true}, taken for {answer}"
            words = f"{part.table['id'].iloc[i]}: {words}, {100 * confidence[i]:.0f}\u00a0%"
            pair = (image, heatmap.over(image, values))
            parts.append(strip(pair, ("picture", "heatmap"), words))
    return "".join(parts)


def _data(config: dict, classes: list[str]) -> str:
    data = config["data"]
    rows = [[split, *(counts[c] for c in classes), sum(counts.values())]
            for split, counts in sorted(data["counts"].items(), key=lambda kv: -sum(kv[1].values()))
            ]  # fmt: skip
    facts = [
        ["name", data["name"]], ["label set", config["emotion_set"]],
        ["split", data["split"]], ["licence", data["licence"]],
        *(["" if i else "learned from", each] for i, each in enumerate(data_sets(config))),
        ["pictures", card.pictures(config)],
        ["manifest", f"sha256 {data['fingerprint'][:16]}"],
    ]  # fmt: skip
    return table(["split", *classes, "all"], rows) + table([], facts, text=True)


def _repeat(config: dict, summary: dict) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in config["versions"].items())
    minutes = config.get("train_seconds", 0) / 60
    training = [
        ["taught by", _taught(config)],
        ["chosen by", f"{config['monitor']} on the dev split, never on the test split"],
        ["epochs", f"{config.get('epochs_done', 0)}, kept: {config.get('best_epoch', 0)}"],
    ]  # fmt: skip
    facts = [
        ["seed", config["seed"]],
        ["started from", card.start(config)],
        *([] if "members" in config else training),
        ["training time", f"{minutes:.1f} minutes"],
        ["machine", f"{config['device']}, {config['precision']}"],
        ["versions", versions], ["source revision", config["git"] or "unknown"],
        ["evaluated", summary["date"]],
    ]  # fmt: skip
    settings = json.dumps(config["settings"], indent=1)
    return (
        f"<pre>{escape(config['command'])}</pre>{table([], facts, text=True)}"
        f"<details><summary>All settings</summary><pre>{escape(settings)}</pre></details>"
    )


def _taught(config: dict) -> str:
    """Return what the targets were, beside the labels."""
    if not tells_classes(config):
        return "ratings of valence and arousal alone"
    if teacher := config["teacher"]:
        return f"a linear probe on {teacher['backbone']}, {teacher['data']}"
    if config["settings"].get("distributions"):
        return "each picture's shares of the classes, where the data set tells them"
    return "nobody, by labels alone"


def _audit(dataset: Path) -> str:
    """Return what preparation left out, and what an audit found, where there was one."""
    reasons = rejection_counts(dataset)
    words = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in reasons.items())
    parts = [f"<p>Left out at preparation: {escape(words or 'nothing')}.</p>"]
    path = dataset.with_name(f"{dataset.name}-audit") / "audit.json"
    if path.is_file():
        found = Findings(**json.loads(path.read_text("utf-8")))
        parts.append(f"<pre>{escape(audit_page.text(found))}</pre>")
    else:
        parts.append("<p>Not audited yet: <code>deepconnotation audit "
                     f"{escape(dataset)}</code>, then evaluate again.</p>")  # fmt: skip
    return "".join(parts)


def uses(config: dict) -> str:
    """Return what a net is good for, and what it must not be used for, as HTML."""
    good, bad = card.uses(config)
    return f"<p>Good for:</p>{_list(good)}<p>Not for:</p>{_list(bad)}"


def _list(points: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in points)}</ul>"


def limits(summary: dict) -> str:
    """Return what the figures do not say, as HTML."""
    points = [
        "The intervals come from 1,000 bootstrap resamples of the evaluated pictures (of whole "
        "people or groups, where those are known). They say how far chance in the choice of "
        "pictures reaches, not what another data set or another seed would give.",
        "The figures hold for pictures like those of the data set. Labels are the annotators' "
        "impressions.",
    ]
    if summary.get("absent_classes"):
        points.append(f"Not in this split: {', '.join(summary['absent_classes'])}.")
    return _list(points)
