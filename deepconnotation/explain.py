"""Show where in pictures a run finds the reasons for its answers, as a page of heatmaps.

    python -m deepconnotation.explain snapshots/faces                 (examples of its test split)
    python -m deepconnotation.explain snapshots/faces photo.jpg holiday/ --out why.html
    python -m deepconnotation.explain snapshots/faces photo.jpg --label anger

Beside each picture stand two maps: Grad-CAM, and occlusion, which covers the picture part by part.
Where they disagree, believe neither. Without pictures the page shows the most confident right and
wrong answers of the test split, and lies in the run folder. Exit status 3 when a picture could not
be read.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deepconnotation import run
from deepconnotation.console import (
    UserError,
    argument_parser,
    need_writable,
    progress,
    reading,
    run_command,
    write_atomic,
)
from deepconnotation.emotions import plain
from deepconnotation.predict import SOME_FAILED, list_inputs, read

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = 12  # right answers, and wrong ones


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.explain")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of the run")
    add("inputs", metavar="IMAGE|DIR|-", nargs="*", help="pictures, folders, or - for paths on "
        "standard input")  # fmt: skip
    add("--faces", action=argparse.BooleanOptionalAction, help="explain each face that is found in "
        "the pictures (extra [faces]; default: as the run's were prepared)")  # fmt: skip
    add("--label", type=plain, metavar="CLASS", help="explain this class instead of the answer")
    add("--out", metavar="FILE", help="of the page (default: explain.html in the run folder)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    found = run.load(args.run)
    found.need_classes()
    if args.label and args.label not in found.classes:
        raise UserError(f"--label {args.label}: the run tells {', '.join(found.classes)}")
    if args.faces and not args.inputs:
        raise UserError("--faces: name the pictures in which they are")
    label = found.classes.index(args.label) if args.label else None
    page = Path(args.out or found.path / "explain.html")
    if page.suffix.lower() not in (".html", ".htm"):  # it might be a picture's, which would be lost
        raise UserError(f"--out {args.out}: expected the name of a page, like why.html")
    need_writable(page.parent)
    rejected: list[dict] = []
    if args.inputs:
        faces = found.cuts_faces(args.faces)
        rows = [row for path in list_inputs(args.inputs) for row in read(path, found.size, faces)]
        rejected = [row for row in rows if row["status"] != "ok"]
        rows = [row for row in rows if row["status"] == "ok"]
        if not rows:
            reason = f" ({rejected[0]['file']}: {rejected[0]['reason']})" if rejected else ""
            raise UserError(f"no picture in {', '.join(args.inputs)}{reason}")
        chapters = {"Pictures": [(row["pixels"], Path(row["file"]).name, "") for row in rows]}
    else:
        chapters = examples(found)
    write_atomic(page, _page(found, chapters, label, rejected))
    left_out = f"; left out, with reasons there: {len(rejected)}" if rejected else ""
    print(f"explained: {sum(map(len, chapters.values()))} pictures, page: {page}{left_out}")
    return SOME_FAILED if any(row["status"] == "rejected" for row in rejected) else 0


def examples(found: run.Run) -> dict[str, list[tuple["np.ndarray", str, str]]]:
    """Return the most confident right and wrong answers of the test split.

    Returns:
        Heading -> pictures: uint8 (H, W, 3), its name, its true class.

    Raises:
        UserError: when the run was not evaluated, or its data set is gone or has changed.
    """
    found.need_net()
    from deepconnotation import predictions
    from deepconnotation.data import manifest, pipeline

    table, dataset = found.path / "predictions.csv", Path(found.config["data"]["path"])
    columns = ("id", "label", "predicted", "confidence")
    answers = predictions.read(table, columns, "evaluate the run, or name pictures")
    if not manifest.exists(dataset):
        raise UserError(f"{dataset}: the run's data set is not there; name pictures instead")
    part = pipeline.load(dataset, "test")
    if list(answers["id"]) != list(part.table["id"]):
        raise UserError(f"{dataset} has changed since {table} was written; evaluate the run again")
    with reading(table, "evaluate the run again"):
        surest = answers.astype({"confidence": float}).sort_values(
            "confidence", ascending=False, kind="stable"
        )
    right = surest["label"] == surest["predicted"]
    chapters = {}
    for heading, rows in (("Most confident right answers", surest[right]),
                          ("Most confident errors", surest[~right])):  # fmt: skip
        chapters[heading] = [(part.images[i], row["id"], row["label"])
                             for i, row in rows[:EXAMPLES].iterrows()]  # fmt: skip
    return {heading: pictures for heading, pictures in chapters.items() if pictures}


def _page(found: run.Run, chapters: dict, label: int | None, rejected: list[dict]) -> str:
    import numpy as np

    from deepconnotation import heatmap
    from deepconnotation.answer import answers_of
    from deepconnotation.page import escape, number, page, section, strip, table

    answer = answers_of(found)
    maps = heatmap.grad_cam(found.model)
    untaught = heatmap.grad_cam(heatmap.shuffled(found.model))
    parts, agreements, sanity = [], [], []
    with progress("pictures", sum(map(len, chapters.values()))) as advance:
        for heading, pictures in chapters.items():
            strips = []
            for pixels, name, true in pictures:
                pixels = np.asarray(pixels)
                p = np.exp(answer(pixels[None])[0].numpy()[0])
                chosen = int(p.argmax()) if label is None else label
                cam = maps(pixels[None], [chosen])[0]
                covered = heatmap.occlusion(answer, pixels, chosen)
                agreements.append(heatmap.agreement(cam, covered))
                sanity.append(heatmap.agreement(cam, untaught(pixels[None], [chosen])[0]))
                words = (f"{name}: {found.classes[chosen]} {100 * p[chosen]:.0f}\u00a0%"
                         f"{f', labelled {true}' if true else ''}; the maps agree by "
                         f"{agreements[-1]:.2f}")  # fmt: skip
                shown = (pixels, heatmap.over(pixels, cam), heatmap.over(pixels, covered))
                strips.append(strip(shown, ("picture", "Grad-CAM", "occlusion"), words))
                advance(1)
            parts.append(section(heading, "".join(strips)))
    words = (f"<p>Bright places speak for the class that is named. Grad-CAM weighs the net's last "
             f"maps by their gradient; occlusion covers the picture part by part and shows where "
             f"the probability falls. Rank correlation of the two, on average: "
             f"{number(float(np.mean(agreements)))}. Of Grad-CAM with that of the same net with "
             f"shuffled weights: {number(float(np.mean(sanity)))}; near 1 it would show the "
             f"picture's edges and not what was learned.</p>")  # fmt: skip
    note = ('<p class="notice">A map says where the net looks, not why, and not what a person '
            "feels. The page holds the pictures themselves.</p>")  # fmt: skip
    if rejected:
        rows = [[row["file"], row["reason"]] for row in rejected]
        parts.append(section("Not read", table(["file", "reason"], rows, text=True)))
    title = f"Why {found.config['arch']} answers so ({escape(found.path.name)})"
    return page(title, [words, note, *parts])


if __name__ == "__main__":
    run_command(main)
