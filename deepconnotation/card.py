"""A run's model card in Markdown (Mitchell et al., FAT* 2019, arXiv 1810.03993)."""

from pathlib import Path

from deepconnotation.affect import FIGURES
from deepconnotation.console import write_atomic
from deepconnotation.emotions import is_own
from deepconnotation.metrics import SCALARS, with_interval
from deepconnotation.page import number
from deepconnotation.run import Run, tells_classes
from deepconnotation.seen import data_sets

FACES = ("affectnet", "facial_expressions", "fer2013")  # how the label sets of faces begin


def of_faces(config: dict) -> bool:
    """Tell whether a run looks at faces, and not at what a picture evokes."""
    return config["emotion_set"].startswith(FACES) or config["data"].get("faces", False)


def question(config: dict) -> str:
    """Return what a run answers, as one sentence."""
    classes = ", ".join(config["classes"])
    if not tells_classes(config):
        shows = "a face shows" if of_faces(config) else "a picture evokes"
        return f"How pleasant (valence) and how stirring (arousal) do people find what {shows}?"
    if of_faces(config):
        return f"Which expression do people see in a face: {classes}?"
    if is_own(config["emotion_set"]):
        return f"Which of these labels do people give a picture: {classes}?"
    return f"Which emotion do people say a picture evokes: {classes}?"


def pictures(config: dict) -> str:
    """Return in words how the pictures are that a run looks at."""
    height, width, _ = config["input_shape"]
    data = config["data"]
    words = [f"{height} x {width} pixels", *["grey"] * data["grey"],
             *["cut to the largest face"] * data.get("faces", False)]  # fmt: skip
    return ", ".join(words)


def uses(config: dict) -> tuple[list[str], list[str]]:
    """Return what a run is good for, and what it must not be used for."""
    good = [
        "To study how far such labels can be told from pixels, to teach, to compare methods.",
        "To sort or search picture collections, where a person looks at the result.",
    ]
    faces = [
        "A face does not reveal what a person feels, thinks or intends (Barrett et al. 2019). "
        "Do not take an answer for an inner state.",
        "Not for decisions about people: hiring, schools, insurance, police, borders, health. "
        "Some of these are forbidden by law, in the EU by the AI Act for work and schools.",
        "Not for faces unlike those of the data set: other ages, lighting, angles, cultures.",
    ]
    answer = "likeliest label" if tells_classes(config) else "mean rating"
    pictures = [
        f"A picture's emotion differs from viewer to viewer; an answer is the {answer} of this "
        "data set's annotators, not what you or a given person will feel.",
        "Not to judge the people in a picture or those who made it, and not to steer feelings "
        "without their knowledge.",
        "Not for pictures unlike those of the data set: drawings, screenshots, other cultures.",
    ]
    if of_faces(config):
        return good, faces
    return good, faces + pictures if is_own(config["emotion_set"]) else pictures


def write(found: Run, summary: dict) -> Path:
    """Write card.md into the run folder.

    Args:
        found: the run.
        summary: as `evaluate.evaluate` makes it.

    Returns:
        The file's path.
    """
    path = found.path / "card.md"
    write_atomic(path, text(found.config, summary))
    return path


def text(config: dict, summary: dict) -> str:
    """Return the card."""
    data = config["data"]
    good, bad = uses(config)
    lines = [
        f"# Model card: {config['arch']} on {data['name']}",
        "",
        *(["**Trained on pictures that the program drew itself. No figure here is a result about "
           "emotions.**", ""] if data["drawn"] else []),
        question(config),
        "",
        "## Model",
        "",
        f"- Architecture: {config['arch']}, pictures of {pictures(config)}; Keras, `model.keras`",
        f"- Trained: {config['started']} on "
        f"{config['device']}, seed {config['seed']}, by `{config['command']}`",
        f"- Started from: {start(config)}",
        f"- Source revision: {config.get('git') or 'unknown'}",
        "",
        "## Intended use",
        "",
        *(f"- {line}" for line in good),
        "",
        "## Misuse",
        "",
        *(f"- {line}" for line in bad),
        "",
        "## Data",
        "",
        f"- {data['name']}, licence: {data['licence']}",
        "- Learned from, itself or through what it began from:",
        *(f"  - {each}" for each in data_sets(config)),
        f"- Split: {data['split']}",
        f"- Pictures: {_counts(data['counts'])}",
        "",
        "## Figures",
        "",
        f"On {summary['images']:,} {summary['split']} pictures, {summary['date'][:10]}, 95 % "
        "bootstrap intervals:",
        "",
        *(_figures(summary) if "accuracy" in summary else []),
        *_affect(summary),
        *_calibration(summary),
        *_groups(summary),
        "## Limits",
        "",
        "- The figures hold for pictures like those of the data set, labelled by people like its "
        "annotators. The intervals say how far chance in the choice of test pictures reaches.",
        "- Errors are not spread evenly over groups of pictures; see the table above and "
        "`report.html`.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _figures(summary: dict) -> list[str]:
    return [
        "| | value | interval | always the commonest class |",
        "|---|---|---|---|",
        *(f"| {name.replace('_', ' ')} | {f['value']:.3f} | {f['low']:.3f} to {f['high']:.3f} | "
          f"{f['majority']:.3f} |" for name, f in ((n, summary[n]) for n in SCALARS)),
        "",
        "| class | precision | recall | pictures |",
        "|---|---|---|---|",
        *(f"| {row['class']} | {number(row['precision'])} | {number(row['recall'])} | "
          f"{row['images']} |" for row in summary["per_class"]),
        "",
    ]  # fmt: skip


def _affect(summary: dict) -> list[str]:
    if "affect" not in summary:
        return []
    return [
        "| -1 to 1 | CCC, 1 is perfect | RMSE | equal signs | pictures |",
        "|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(with_interval(f[k]) for k in FIGURES)} | {f['pictures']} |"
          for name, f in summary["affect"].items() if f["pictures"]),
        "",
    ]  # fmt: skip


def start(config: dict) -> str:
    """Return in words what a run started from."""
    if "members" in config:
        what = "the mean" if config["arch"] == "ensemble" else "the mean of the weights"
        return f"{what} of {', '.join(config['members'])}"
    weights = config["weights"]
    return f"{weights['run']}, trained on {weights['data']}" if weights else "random weights"


def _counts(counts: dict[str, dict[str, int]]) -> str:
    sums = {split: sum(each.values()) for split, each in counts.items()}
    return ", ".join(f"{split} {n:,}" for split, n in sorted(sums.items(), key=lambda s: -s[1]))


def _calibration(summary: dict) -> list[str]:
    if "calibration" not in summary:
        return []
    c = summary["calibration"]
    line = f"Calibration error (ECE) {c['ece']:.3f}, Brier score {c['brier']:.3f}."
    if "sets" in summary:
        s = summary["sets"]
        line += (f" Prediction sets made to hold the true class {100 * s['asked']:.0f} % of the "
                 f"time hold it {100 * s['coverage']:.1f} %, with {s['size']:.2f} classes on "
                 "average.")  # fmt: skip
    return [line, ""]


def _groups(summary: dict) -> list[str]:
    if "slices" not in summary:  # a run of an earlier version
        return []
    lines = ["| group | pictures | accuracy | its commonest class |", "|---|---|---|---|"]
    for name, rows in summary["slices"].items():
        lines += [f"| {name} {row['value']} | {row['images']} | {row['accuracy']['value']:.3f} | "
                  f"{row['commonest']:.3f} |" for row in rows]  # fmt: skip
    return [*lines, ""]
