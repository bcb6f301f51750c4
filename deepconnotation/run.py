"""The run folder: what was trained, on what, how, and with which result.

    snapshots/RUN/
        run.json           settings, seed, git revision, versions, data set, device, state
        model.keras        best weights by the monitored figure
        model.tflite       the same without TensorFlow: predict makes it; model.tflite.json: of what
        seen.npy           digests of the pictures it has learned from, see seen.py
        last/state.npz     what resuming needs
        history.csv        a row an epoch
        metrics.json  predictions.csv  report.html
"""

import hashlib
import json
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation.console import UserError, file_atomic, write_atomic

if TYPE_CHECKING:
    import keras

FORMAT = 1
PACKAGES = ("deepconnotation", "tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow")
REQUIRED = ("format", "state", "arch", "classes", "emotion_set", "input_shape", "settings", "data")


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder.
        config: what run.json says.
    """

    path: Path
    config: dict

    @property
    def classes(self) -> list[str]:
        """Class names; the model's outputs are in this order."""
        return self.config["classes"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures the model was trained on, pixels."""
        return tuple(self.config["input_shape"][:2])

    @property
    def test_flip(self) -> bool:
        """Whether answers are averaged over a picture and its mirror image."""
        return self.config["settings"].get("test_flip", False)

    @property
    def temperature(self) -> float:
        """What dev chose for the log-probabilities to be divided by; 1 where it chose nothing."""
        return self.config.get("temperature", 1.0)

    @property
    def multi_label(self) -> bool:
        """Whether a picture may have several labels; config["thresholds"] then says from when."""
        return self.config["settings"].get("multi_label", False)

    @property
    def cuts(self) -> dict[str, float | list[float]]:
        """From which probability on, or from which a class, classes are in a prediction's "set" or
        among its "labels", as far as dev has chosen."""
        if not self.tells_classes:
            return {}
        named = {"set": "conformal_cut", "labels": "thresholds"}
        return {name: self.config[key] for name, key in named.items() if key in self.config}

    @property
    def axes(self) -> tuple[str, ...]:
        """"valence" and "arousal" where the model tells them, else nothing."""
        told = self.config["settings"].get("affect", "none") != "none"
        return ("valence", "arousal") if told else ()

    @property
    def tells_classes(self) -> bool:
        """See the function of this name."""
        return tells_classes(self.config)

    @property
    def told_classes(self) -> list[str]:
        """The classes that it may tell: none where it learned valence and arousal alone."""
        return self.classes if self.tells_classes else []

    def need_classes(self) -> None:
        """Stop where there are none.

        Raises:
            UserError: saying so.
        """
        if not self.tells_classes:
            raise UserError(f"{self.path} learned valence and arousal alone; this needs a run that "
                            "learned classes")  # fmt: skip

    def need_net(self) -> None:
        """Stop where there is none of its own.

        Raises:
            UserError: saying where there are some.
        """
        if "folds" in self.config:
            raise UserError(f"{self.path} is a cross-validation; give one of its folds' nets, like "
                            f"{self.path / 'fold-1'}")  # fmt: skip

    def cuts_faces(self, asked: bool | None) -> bool:
        """Tell whether faces are to be cut out of pictures: as asked, or else as it was done with
        those that the run learned from."""
        return self.config["data"].get("faces", False) if asked is None else asked

    def update(self, **fields) -> "Run":
        """Write some fields of run.json anew and return the run with them."""
        config = {**self.config, **fields}
        write_atomic(self.path / "run.json", json.dumps(config, indent=2) + "\n")
        return Run(self.path, config)

    @cached_property
    def model(self) -> "keras.Model":
        """The trained model, in float32, in safe mode: no code from the file is run.

        Raises:
            UserError: when the file is missing, damaged, or does not fit run.json.
        """
        from deepconnotation.backend import keras
        from deepconnotation.models import layers  # noqa: F401, Keras looks its classes up
        from deepconnotation.models.precision import in_float32

        path = self.path / "model.keras"
        if not path.is_file():
            raise UserError(f"{path}: no such file; {self._why_no_model()}")
        expected = self.config.get("model_sha256")
        if expected and file_sha256(path) != expected:
            raise UserError(f"{path} is not the file that this run saved; copy the folder whole")
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises many kinds for a damaged or foreign file.
            raise UserError(f"{path}: not a loadable model ({_first_line(error)})") from None
        shape, units = [*self.size, 3], model.outputs[0].shape[-1]
        if list(model.input_shape[1:]) != shape or units != len(self.classes):
            raise UserError(
                f"{self.path}: model.keras takes {list(model.input_shape[1:])} and tells "
                f"{units} classes, run.json says {shape} and "
                f"{len(self.classes)}; the folder mixes two runs"
            )
        return in_float32(model)

    def _why_no_model(self) -> str:
        if self.config["state"] == "diverged":
            return "the run diverged in its first epoch and has no good weights"
        if "folds" in self.config:
            return f"a cross-validation has a net a fold: {self.path / 'fold-1'} and so on"
        return f"resume the run with: python -m deepconnotation.train --resume {self.path}"


def tells_classes(config: dict) -> bool:
    """Tell whether a run has learned classes, and not valence and arousal alone."""
    settings = config["settings"]
    return settings.get("affect", "none") == "none" or settings.get("affect_share", 0) < 1


def create(path: str | Path, config: dict) -> Run:
    """Make a run folder.

    Raises:
        UserError: when the folder exists and holds something.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        hint = f"; go on with it by --resume {path}" if (path / "run.json").exists() else ""
        raise UserError(f"--run {path} exists already; choose another name{hint}")
    path.mkdir(parents=True, exist_ok=True)
    return Run(path, {}).update(
        format=FORMAT, state="running", started=now(), git=_git_revision(),
        versions=_versions(), **config,
    )  # fmt: skip


def spare(folder: Path) -> None:
    """Refuse a run's folder as the place for something else.

    Raises:
        UserError: when there is a run.
    """
    if (folder / "run.json").exists():
        raise UserError(f"--out {folder}: a run exists already there, whose files would be lost; "
                        "choose another name")  # fmt: skip


def load(path: str | Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: when run.json is missing, damaged or of a later format.
    """
    path = Path(path)
    try:
        config = json.loads((path / "run.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no run.json there; expected a run folder") from None
    except ValueError as error:
        raise UserError(f"{path / 'run.json'}: damaged ({error})") from None
    missing = [k for k in REQUIRED if k not in config] if isinstance(config, dict) else REQUIRED
    if missing:
        raise UserError(f"{path / 'run.json'}: damaged ({missing[0]!r} is missing)")
    if config["format"] != FORMAT:
        raise UserError(f"{path}: run format {config['format']}; this version reads {FORMAT}")
    return Run(path, config)


def save_model(model: "keras.Model", path: Path) -> None:
    """Write a .keras file, of Keras' own layers, under a temporary name and rename it."""
    from deepconnotation.models.fused import plain

    with file_atomic(path) as partial, plain(model):
        model.save(partial)


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_sha256(path: Path) -> str:
    """Return a file's sha256 as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def _git_revision() -> str | None:
    """Return the revision of the source tree, with "+changes" when it was edited since."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
