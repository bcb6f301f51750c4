"""Follow the emotion of a video, or of a camera, over time.

    python -m deepconnotation.video snapshots/faces film.mp4 --out film
    python -m deepconnotation.video snapshots/faces /dev/video0 --faces --seconds 60 --out me

Looks at a frame every half second (--every) and writes OUT/emotions.csv, a row a frame with the
probabilities, and valence and arousal where the run tells them, smoothed over time, and
OUT/emotions.png. With --faces it looks at the largest face of a frame, which runs that learned from
faces want; frames without one are counted and have no row. Memory does not grow with the film.
Ctrl-C keeps what came; given again, the command goes on where it was left, a camera's time too.
Needs the extra [video], and [faces] for --faces.
"""

import argparse
import csv
import json
import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import (
    UserError,
    argument_parser,
    file_atomic,
    going_on,
    progress,
    reading,
    run_command,
    write_atomic,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from deepconnotation.fast import Answers

BATCH = 8  # frames answered at once
POINTS = 2000  # of the plot, at most
ASKED = "asked.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.video")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("video", metavar="FILE|CAMERA", help="a video file, or a camera like /dev/video0")
    add("--out", metavar="DIR", required=True, help="folder of the table and the plot")
    add("--every", type=float, default=0.5, help="seconds between the frames looked at [0.5]")
    add("--smooth", type=float, default=2.0, help="seconds after which a frame counts 1/e; 0 does "
        "not smooth [2]")  # fmt: skip
    add("--faces", action=argparse.BooleanOptionalAction, help="look at the largest face (extra "
        "[faces]; default: as the run's pictures were prepared)")  # fmt: skip
    add("--seconds", type=float, help="stop after this long")
    return parser.parse_args(arguments)


@going_on()
def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    long_enough = args.seconds is None or args.seconds > 0
    if not (0 < args.every < math.inf and 0 <= args.smooth < math.inf and long_enough):
        raise UserError("--every and --seconds must be above 0, --smooth not below")
    found = run.load(args.run)
    if found.multi_label:
        raise UserError(f"{args.run} tells several labels a picture; a video needs one")
    table = Path(args.out) / "emotions.csv"
    faces = found.cuts_faces(args.faces)
    watch(found, args.video, table, args.every, args.smooth, args.seconds, faces)
    print(f"{table} and {table.with_suffix('.png')}")


def watch(
    found: run.Run, video: str, table: Path, every: float, smooth: float, seconds: float | None,
    faces: bool = False,
) -> None:  # fmt: skip
    """Write a row a frame, behind those that are there, and draw them all in the end.

    Args:
        found: a run with a model.
        video: a file, or a camera's device.
        table: CSV with time (seconds) and what the run tells of label, confidence, p_CLASS, valence
            and arousal, all of them smoothed; beside it are the plot, and in asked.json what was
            asked.
        every: seconds between frames.
        smooth: time constant of exponential smoothing, seconds; 0 for none.
        seconds: of the video to look at; None for all.
        faces: whether to look at the largest face of a frame; one without has no row.

    Raises:
        UserError: when the file is no video, or the table is of another run, video or setting.
    """
    import numpy as np

    from deepconnotation.predict import answering

    classes = found.told_classes
    names = [*(f"p_{c}" for c in classes), *found.axes]
    fields = ["time", *["label", "confidence"] * found.tells_classes, *names]
    answer = answering(found)
    asked = {"run": run.file_sha256(found.path / "model.keras"),
             "video": str(Path(video).resolve()), "--every": every, "--smooth": smooth,
             "--faces": faces or None}  # fmt: skip  # None: as where it was not yet known
    start, told = _left(table, asked, fields, len(names))
    decay = float(np.exp(-every / smooth)) if smooth else 0.0
    new = start is None
    frames = _frames(video, every, 0.0 if new else start + every, seconds)
    frames, faceless = _pixels(frames, found.size, faces), 0
    some = list(islice(frames, BATCH))  # before a file is made: it may be no video at all
    table.parent.mkdir(parents=True, exist_ok=True)
    if new:
        write_atomic(table.with_name(ASKED), json.dumps(asked, indent=2) + "\n")
    try:
        with (
            open(table, "w" if new else "a", newline="", encoding="utf-8") as file,
            progress("frames", None) as advance,
        ):
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(fields)
            while some:
                good = [(time, pixels) for time, pixels in some if pixels is not None]
                faceless += len(some) - len(good)
                rows = _told(answer, [pixels for _, pixels in good], len(classes)) if good else ()
                for (time, _), now in zip(good, rows, strict=True):
                    told = now if told is None else decay * told + (1 - decay) * now
                    best = int(told[: len(classes)].argmax()) if classes else 0
                    label = [classes[best], f"{told[best]:.6f}"] if classes else []
                    writer.writerow([f"{time:.3f}", *label, *(f"{v:.6f}" for v in told)])
                file.flush()
                advance(len(some))
                some = list(islice(frames, BATCH))
    finally:  # what came is drawn, also when the film turns out to be damaged
        if table.exists() and table.stat().st_size:  # a full disk leaves nothing in it
            plot(table, classes, found.axes)
    if faceless and told is None:
        raise UserError(f"{video}: no face was found in {faceless} frames")
    if faceless:
        print(f"{faceless} frames have no face that was found")


def _told(answer: "Answers", pictures: list["np.ndarray"], classes: int) -> "np.ndarray":
    """Return float32 (n, classes + axes), the probabilities of pictures, and behind them their
    valence and arousal, where the run tells them."""
    import numpy as np

    log_p, told = answer(np.stack(pictures))
    return np.concatenate([np.exp(log_p)[:, :classes], told], axis=1)


def _left(
    table: Path, asked: dict, fields: list[str], numbers: int
) -> tuple[float | None, "np.ndarray | None"]:
    """Return time and the last numbers of the last whole row of an earlier command.

    Raises:
        UserError: when it asked something else.
    """
    import numpy as np

    if not table.exists():
        return None, None
    path, earlier = table.with_name(ASKED), {}
    if path.exists():
        with reading(path, f"delete {table.parent}, or choose another --out"):
            earlier = {**json.loads(path.read_text("utf-8"))}
    for name, value in asked.items():
        if earlier.get(name) != value:
            raise UserError(f"{table} is of another {name}; choose another --out")
    content = table.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]  # a killed command may have left half a row
    os.truncate(table, len(whole))
    rows = list(csv.reader(whole.decode("utf-8").splitlines()))
    if rows and rows[0] != fields:
        raise UserError(f"{table} has other columns than this command's; choose another --out")
    if len(rows) < 2:
        return None, None
    return float(rows[-1][0]), np.array([float(v) for v in rows[-1][-numbers:]], np.float32)


def _frames(
    video: str, every: float, start: float, seconds: float | None
) -> Iterator[tuple[float, "Image.Image"]]:
    """Yield time (seconds) and picture, upright, of the frames to be looked at."""
    try:
        import av
    except ModuleNotFoundError:
        raise UserError("av is not installed; it comes with pip install deepconnotation[video]"
                        ) from None  # fmt: skip
    camera = video.startswith("/dev/")
    try:
        with av.open(video, format="v4l2" if camera else None) as container:
            if not container.streams.video:
                raise UserError(f"{video} has no pictures in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start and not camera:
                container.seek(int(start * av.time_base))  # to the key frame before
            zero, due = None if camera else 0.0, start
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                if zero is None:  # a camera's clock may begin anywhere
                    zero = frame.time - start
                time = frame.time - zero
                if seconds is not None and time > seconds:
                    return
                if time >= due - 1e-6:
                    # A phone films as it is held and writes beside it how to turn the frames.
                    yield time, frame.to_image().rotate(frame.rotation, expand=True)
                    due = max(due + every, time)
    except av.error.FFmpegError as error:
        raise UserError(f"{video}: {error.strerror or error}; expected a video file or a camera"
                        ) from None  # fmt: skip


def _pixels(
    frames: Iterator[tuple[float, "Image.Image"]], size: tuple[int, int], faces: bool
) -> Iterator[tuple[float, "np.ndarray | None"]]:
    """Yield time and pixels, uint8 (H, W, 3), of the frames or of their largest faces; None of a
    frame without one."""
    from deepconnotation.data.decode import Rejected, fitted
    from deepconnotation.data.faces import cut

    for time, image in frames:
        try:
            yield time, cut(image, size)[0][1] if faces else fitted(image, size)
        except Rejected:
            yield time, None


def plot(table: Path, classes: Sequence[str], axes: Sequence[str]) -> None:
    """Draw a table's probabilities, and valence and arousal, over time into a PNG beside it."""
    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    from deepconnotation.fonts import font_for

    font = FontProperties(fname=font_for("".join(classes)))
    columns = [f"p_{c}" for c in classes]
    numbers = dict.fromkeys(["time", *columns, *axes], float)
    rows = pd.read_csv(table, dtype=numbers)  # also without a row
    rows = rows.iloc[:: max(len(rows) // POINTS, 1)]
    kinds = [*["probability"] * bool(classes), *[" and ".join(axes)] * bool(axes)]
    figure = Figure(figsize=(10, 4 * len(kinds)))
    for panel, kind in zip(figure.subplots(len(kinds), squeeze=False)[:, 0], kinds, strict=True):
        if kind == "probability":
            panel.stackplot(rows["time"], *(rows[c] for c in columns), labels=classes, alpha=0.85)
            panel.set(ylim=(0, 1))
        else:
            for name in axes:
                panel.plot(rows["time"], rows[name], label=name)
            panel.axhline(0, color="#777777", linewidth=0.5)
            panel.set(ylim=(-1, 1))
        panel.set(xlabel="seconds", ylabel=kind)
        panel.margins(x=0)
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, prop=font)
    with file_atomic(table.with_suffix(".png")) as partial:
        figure.savefig(partial, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    run_command(main)
