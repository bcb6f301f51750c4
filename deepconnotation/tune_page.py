"""The page of a search."""

import warnings
from pathlib import Path

import matplotlib
import optuna
from optuna.visualization import matplotlib as plots

from deepconnotation import run
from deepconnotation.backend import device_name
from deepconnotation.console import write_atomic
from deepconnotation.page import escape, figure_image, page, section, table
from deepconnotation.tune import finished

#: title -> (function of Optuna, what the picture shows, trials it needs)
FIGURES = {
    "History": (plots.plot_optimization_history, "the figure of every trial, and the best yet", 1),
    "Importance": (plots.plot_param_importances, "how much each setting mattered", 3),
    "Parallel coordinates": (plots.plot_parallel_coordinate, "settings of every trial", 2),
    "Curves": (plots.plot_intermediate_values, "the dev figure of every trial by epoch", 1),
}


def write(study: optuna.Study, out: Path, monitor: str, command: str) -> Path:
    """Write OUT/report.html and return its path."""
    best = study.best_trial
    headline = (
        f'<p class="headline">{len(finished(study))} trials; best {escape(monitor)} '
        f"{best.value:.4f} (trial {best.number}). All on the dev split: it was chosen as the best "
        "of many, so the test figure will be somewhat worse.</p>"
    )
    parts = [headline, section("Train the best", f"<pre>{escape(command)}</pre>")]
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    for title, (plot, words, needed) in FIGURES.items():
        if len(complete) >= needed:
            parts.append(section(title, _figure(plot, study, f"{title}: {words}")))
    parts += [section("Trials", _trials(study)), section("How to repeat it", _about(study))]
    path = out / "report.html"
    write_atomic(path, page(f"Search for {monitor}", parts))
    return path


def _figure(plot, study: optuna.Study, alt: str) -> str:
    with warnings.catch_warnings(), matplotlib.rc_context({"figure.figsize": (9, 4)}):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot(study)
        figure = axes.figure
        image = figure_image(figure, alt)
    matplotlib.pyplot.close(figure)
    return image


def _trials(study: optuna.Study) -> str:
    names = sorted({name for trial in study.trials for name in trial.params})
    rows = []
    for trial in study.trials:
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        state = trial.state.name.lower()
        if "diverged" in trial.user_attrs:
            state = "diverged"
        elif trial.state == optuna.trial.TrialState.FAIL:
            state = "killed, tried again"
        rows.append([trial.number, value, state, *(trial.params.get(n, "") for n in names)])
    return table(["trial", "figure", "state", *names], rows)


def _about(study: optuna.Study) -> str:
    about = study.user_attrs["about"]
    facts = [[name, value] for name, value in about.items()]
    facts += [["date", run.now()], ["machine", device_name()]]
    return table([], facts, text=True)
