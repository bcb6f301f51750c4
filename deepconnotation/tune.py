"""Search for settings with Optuna, on the dev split; the test split is never opened.

    python -m deepconnotation.tune space.toml --data data/mine --trials 20 --out snapshots/tune
    python -m deepconnotation.tune original-rate --data snapshots/mine-lite0 --out snapshots/rates

A space is a TOML file: settings of train as they are, what its nets start from (weights, teacher)
and which classes are one (merge = ["anger+fear"]), and a table of settings to be searched, as lists
of values (all combinations of lists alone are tried, each once) or as ranges:

    arch = "efficientnet_lite0"
    weights = "imagenet"
    epochs = 5
    [search]
    batch = [32, 64]
    rate = { low = 0.01, high = 0.3, log = true }

The presets original-rate, original-epochs and original-batch repeat the sweeps of the first
DeepConnotation project over its classifier on embeddings; their --data is an output of embed.

Trials are kept in OUT/study.db: the same command goes on with them, and several processes may share
one. Hopeless trials are stopped early. OUT/report.html has the history, the importance of settings,
the curves of all trials, and the command that trains the best.
"""

import argparse
import math
import shlex
import shutil
import time
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import (
    UserError,
    argument_parser,
    counting_number,
    going_on,
    one_line,
    run_command,
    seed_number,
    write_atomic,
)
from deepconnotation.models.registry import resolve
from deepconnotation.settings import CLASSIFIER_WIDTHS, MONITORS, Settings

if TYPE_CHECKING:
    import optuna

#: facts B: each sweep over one setting of the classifier on embeddings
PRESETS = {
    "original-rate": {"rate": [1e-4, 1e-3, 1e-2, 0.1, 1.0]},
    "original-epochs": {"epochs": [500, 1000, 1500]},
    "original-batch": {"batch": [4, 16, 64, 128]},
}
ORIGINAL = {"rate": 1e-4, "epochs": 1000, "batch": 64}
#: what of train's flags is no setting and all trials share -> what it is
STARTS = {"weights": "a run's folder, imagenet or a file of weights",
          "teacher": "the folder of a linear probe",
          "merge": 'classes like "anger+fear", or a list of such'}  # fmt: skip
STUDY = "tune"  # its name in study.db
HEARTBEAT = 5  # seconds
RANGE = {"low", "high", "log"}


@dataclass(frozen=True)
class Space:
    """What is tried.

    Attributes:
        arch: of the nets; None for the classifier on embeddings.
        base: settings that all trials share.
        search: setting -> list of values, or dictionary with "low", "high" and perhaps "log".
        start: "weights", "teacher" and "merge" of all trials, as far as they are given.
    """

    arch: str | None
    base: dict
    search: dict
    start: dict = field(default_factory=dict)

    @property
    def grid(self) -> bool:
        """Whether all is lists, so that every combination can be tried."""
        return all(isinstance(spec, list) for spec in self.search.values())


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.tune")
    add = parser.add_argument
    add("space", metavar="SPACE", help=f"TOML file, or {', '.join(PRESETS)}")
    add("--data", metavar="DIR", required=True, help="prepared data set, or output of embed")
    add("--out", metavar="DIR", required=True, help="folder of the search")
    add("--trials", type=counting_number, default=20, help="trials in all, of all processes [20]")
    add("--monitor", choices=MONITORS, default="val_loss", help="dev figure to be made better "
        "[val_loss]")  # fmt: skip
    add("--seed", type=seed_number, default=0, help="of the search [0]")
    return parser.parse_args(arguments)


@going_on()
def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    space = read_space(args.space)
    try:
        import optuna
    except ImportError:
        raise UserError("tune needs Optuna; pip install deepconnotation[tune]") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial's error is told once
    # Heartbeats; and a curve of trials that are all alike.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", "Attempting to set identical low and high")
    out, data = Path(args.out), Path(args.data)
    run.spare(out)
    fingerprint = _fingerprint(space, data)
    out.mkdir(parents=True, exist_ok=True)
    study = open_study(out, space, fingerprint, args.monitor, args.seed)
    search(study, space, data, out, args.monitor, args.trials, args.seed)

    from deepconnotation import tune_page

    best = study.best_trial
    command = best_command(space, best.params, args.data, args.monitor)
    write_atomic(out / "trials.csv", study.trials_dataframe().to_csv(index=False))
    tune_page.write(study, out, args.monitor, command)
    print(f"best of {len(finished(study))} trials: {args.monitor} {best.value:.4f}, number "
          f"{best.number}\n{command}\nreport: {out / 'report.html'}")  # fmt: skip


def read_space(name: str) -> Space:
    """Read a preset or a TOML file.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    if name in PRESETS:
        search = PRESETS[name]
        return Space(None, {k: v for k, v in ORIGINAL.items() if k not in search}, search)
    try:
        text = tomllib.loads(Path(name).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{name}: no such file, and no preset ({', '.join(PRESETS)})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: not a TOML file ({error})") from None
    search = text.pop("search", None)
    arch = resolve(text.pop("arch", "resnet"))
    start = {key: text.pop(key) for key in STARTS if key in text}
    if isinstance(start.get("merge"), str):
        start["merge"] = [start["merge"]]
    for key, value in start.items():
        if not (_are_names(value) if key == "merge" else isinstance(value, str)):
            raise UserError(f"{name}: {key} = {value!r}: expected {STARTS[key]}")
    if not isinstance(search, dict) or not search:
        raise UserError(f"{name}: a table [search] with settings to be searched is missing")
    known = {f.name for f in fields(Settings)}
    for key, value in [*text.items(), *search.items()]:
        if key not in known:
            raise UserError(f"{name}: {key!r} is no setting of train (see train --help; words are "
                            "joined by _ here)")  # fmt: skip
        if key in search and not _is_spec(value):
            raise UserError(f"{name}: {key} = {value!r}: expected a list of values, or low and "
                            "high, and perhaps log")  # fmt: skip
        for one in _values(value):
            try:
                Settings.from_dict({key: one}).check()
            except TypeError:
                raise UserError(f"{name}: {key} = {value!r}: of the wrong type") from None
    return Space(arch, text, search, start)


def _are_names(value) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_spec(value) -> bool:
    if isinstance(value, list):
        return len(value) > 0
    return isinstance(value, dict) and {"low", "high"} <= {*value} <= RANGE


def _values(value) -> list:
    """Return the values of a setting or of its search, for a range its ends."""
    if isinstance(value, dict):
        return [value["low"], value["high"]]
    return value if isinstance(value, list) else [value]


def _fingerprint(space: Space, data: Path) -> str:
    """Return what names the pictures, or their embeddings, that are searched on."""
    from deepconnotation import embeddings
    from deepconnotation.data import manifest

    if space.arch:
        return manifest.fingerprint(data)
    config = embeddings.load(data)[2]
    return f"{config['fingerprint']}, embedded by {config['weights']}"


def open_study(
    out: Path, space: Space, fingerprint: str, monitor: str, seed: int
) -> "optuna.Study":
    """Open OUT/study.db, or make it.

    Raises:
        UserError: when it holds a search for something else, or cannot be read.
    """
    import optuna
    from sqlalchemy.exc import DatabaseError

    # A process that dies leaves its trial to the others, who notice that its heart beats no more.
    retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
    path = out / "study.db"
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", heartbeat_interval=HEARTBEAT, grace_period=3 * HEARTBEAT,
            heartbeat_stale_trial_callback=retry,
        )  # fmt: skip
    except DatabaseError as error:
        raise UserError(f"{path}: {error.orig}; choose another --out") from None
    study = _study(storage, monitor)
    about = {"arch": space.arch, "base": space.base, "search": space.search, "monitor": monitor,
             "fingerprint": fingerprint, **space.start}  # fmt: skip
    if study.user_attrs and study.user_attrs.get("about") != about:
        if any(trial.state != optuna.trial.TrialState.FAIL for trial in study.trials):
            raise UserError(f"--out {out} holds another search; choose another folder")
        optuna.delete_study(study_name=STUDY, storage=storage)  # no trial of it was taken
        study = _study(storage, monitor)
    study.set_user_attr("about", about)
    if space.grid:
        study.sampler = optuna.samplers.GridSampler(space.search, seed=seed)
    return study


def _study(storage: "optuna.storages.RDBStorage", monitor: str) -> "optuna.Study":
    import optuna

    return optuna.create_study(
        storage=storage, study_name=STUDY, load_if_exists=True,
        direction="minimize" if monitor == "val_loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )  # fmt: skip


def search(
    study: "optuna.Study", space: Space, data: Path, out: Path, monitor: str, trials: int, seed: int
) -> None:
    """Run trials until there are so many, waiting for those of other processes.

    Raises:
        UserError: when none of them gave a figure.
    """
    import optuna

    from deepconnotation.fit import Diverged

    if space.grid:
        trials = min(trials, math.prod(len(values) for values in space.search.values()))
    train = _train_net if space.arch else _train_classifier
    best = min if monitor == "val_loss" else max

    def run_trial(trial: "optuna.Trial") -> float:
        values = {name: _suggest(trial, name, spec) for name, spec in space.search.items()}
        folder = out / f"trial-{trial.number:04}"
        try:
            history = train(space, {**space.base, **values}, data, folder, monitor,
                            _watcher(trial, monitor))  # fmt: skip
        except Diverged as error:
            trial.set_user_attr("diverged", str(error))
            raise optuna.TrialPruned(str(error)) from None
        value = best(row[monitor] for row in history)
        print(f"trial {trial.number}: {monitor} {value:.4f}, "
              + ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
                          for k, v in values.items()), flush=True)  # fmt: skip
        return value

    while (done := len(finished(study))) < trials:
        running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        if done + len(running) < trials:
            if not space.grid:  # a seed a trial: processes side by side must not draw the same
                study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
            _one_more(study, run_trial, out)
        else:
            time.sleep(1)
            optuna.storages.fail_stale_trials(study)
    if not study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        raise UserError(f"none of the trials in {out} gave a figure; try lower rates")


def _one_more(study: "optuna.Study", run_trial: Callable, out: Path) -> None:
    from optuna.exceptions import StorageInternalError

    try:
        study.optimize(run_trial, n_trials=1)
    except AssertionError as error:  # Optuna's own, when it cannot note how a trial ended
        failed = error.__context__
        if not isinstance(failed, StorageInternalError):
            raise
        raise UserError(f"{out / 'study.db'} cannot be written "
                        f"({one_line(failed.__cause__ or failed)[:160]}); make room, then give the "
                        "same command again") from None  # fmt: skip


def finished(study: "optuna.Study") -> list:
    """Return the trials that ended, those that were stopped as hopeless included."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _suggest(trial: "optuna.Trial", name: str, spec):
    if isinstance(spec, list):
        return trial.suggest_categorical(name, spec)
    low, high, log = spec["low"], spec["high"], spec.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def _watcher(trial: "optuna.Trial", monitor: str):
    """Return what looks at every epoch's figures and stops a hopeless trial."""
    import optuna

    def watch(row) -> None:
        trial.report(float(row[monitor]), int(row["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    return watch


def _train_net(
    space: Space, values: dict, data: Path, folder: Path, monitor: str, watch: Callable
) -> list[dict]:
    """Train a net; return a row an epoch."""
    import optuna

    from deepconnotation import train

    settings = Settings.from_dict({**values, "monitor": monitor})
    settings.check()
    start = space.start
    words = _train_words(space, values, str(data), monitor)
    found = train.new_run(
        space.arch, data, folder, settings, start.get("weights", "none"), start.get("teacher"),
        start.get("merge", ()), [*words, "--run", str(folder)],
    )  # fmt: skip
    try:
        trainer = train.make_trainer(found, settings, say=lambda line: None)
        if trainer.dev_split is None:
            raise _no_dev(data)
    except UserError:
        shutil.rmtree(folder)  # the mended search may take its number
        raise
    trainer.watchers.append(watch)
    try:
        trainer.fit()
    except optuna.TrialPruned:
        found.update(state="interrupted")
        raise
    return trainer.progress.history


def _train_classifier(
    space: Space, values: dict, data: Path, folder: Path, monitor: str, watch: Callable
) -> list[dict]:
    """Train the classifier on embeddings; return a row an epoch."""
    from deepconnotation import mlp
    from deepconnotation.embeddings import Embeddings

    found = Embeddings.of(data)
    if not len(found.where("dev")):
        raise _no_dev(data)
    return mlp.fit(found, CLASSIFIER_WIDTHS, **values, patience=None, watch=watch)[1]


def _no_dev(data: Path) -> UserError:
    return UserError(f"{data} has no dev split to search on; make one with deepconnotation split")


def best_command(space: Space, params: dict, data: str, monitor: str) -> str:
    """Return the command that trains the best trial's settings and evaluates them."""
    if not space.arch:
        return "settings of the best classifier: " + ", ".join(
            f"{k} {v}" for k, v in {**space.base, **params}.items()
        )
    words = _train_words(space, params, data, monitor)
    return shlex.join(["python", "-m", "deepconnotation.train", *words])


def _train_words(space: Space, params: dict, data: str, monitor: str) -> list[str]:
    """Return train's arguments for a trial."""
    words = ["--arch", space.arch, "--data", data]
    for name, value in space.start.items():
        for each in value if name == "merge" else [value]:
            words += [f"--{name}", each]
    for name, value in {**space.base, **params, "monitor": monitor}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            words += [f"--{flag}", ",".join(map(str, value))]
        else:
            words += [f"--{flag}", str(value)]
    return words


if __name__ == "__main__":
    run_command(main)
