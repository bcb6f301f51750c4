"""Train a recipe with three seeds and print mean and spread of its test figures.

    python benchmarks/seeds.py faces
    python benchmarks/seeds.py fi32 --seeds 0 1 2

From the top of the repository. Prepares the data sets, and what the recipe starts from, where they
are not there yet, and trains one run a seed into snapshots/. Finished runs are not repeated and
interrupted ones go on, so the command can be stopped and given again.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from deepconnotation import compare
from deepconnotation.console import argument_parser, run_command

DATA = Path(os.environ.get("DEEPCONNOTATION_DATA", "../shared/data"))

PREPARE = "data_tools/fetch_and_resize.py"
FACES_AT = (
    f"{PREPARE} {DATA}/facial_expressions --dataset facial_expressions --grey --drop contempt "
    "--fractions 72/8/20"
)


def by_name(folder: str, size: int) -> dict[str, str]:
    """Return the commands that make the faces at a size, and their weaker split."""
    return {
        folder: f"{FACES_AT} --size {size} --out {folder}",
        f"{folder}-names": f"benchmarks/by_name.py {folder} {folder}-names",
    }


FACES = by_name("data/faces", 64)
FACES96 = by_name("data/faces96", 96)
FI = f"{PREPARE} {DATA}/fi/images --dataset fi"
FI_TEACHER = {  # a linear probe on ImageNet features of the same training pictures
    "data/fi128": f"{FI} --size 128 --out data/fi128",
    "snapshots/fi128-lite0": "-m deepconnotation.embed efficientnet_lite0 --data data/fi128 "
    "--out snapshots/fi128-lite0",
}
FER_AT = (
    f"{PREPARE} {DATA}/fer2013/Training --emotions facial_expressions8 --grey --drop contempt "
    "--fractions 90/5/5"
)
FER = {  # a start for faces: seven expressions of other people
    "data/fer": f"{FER_AT} --size 64 --out data/fer",
    "snapshots/fer": "-m deepconnotation.train --arch resnet --data data/fer --width 32 "
    "--epochs 20 --shift 0.08 --rotate 10 --zoom 0.1 --label-smoothing 0.1 --ema 0.999 "
    "--l2 2.5e-4 --monitor val_accuracy --run snapshots/fer",
}
LITE0 = (
    "--optimizer adamw --weight-decay 0.02 --dropout 0.3 --stochastic-depth 0.1 "
    "--label-smoothing 0.1 --shift 0.08 --rotate 10 --test-flip"
)
LITE0_FACES = f"{LITE0} --zoom 0.1 --monitor val_loss"
FER_LITE0 = {
    "data/fer96": f"{FER_AT} --size 96 --out data/fer96",
    "snapshots/fer-lite0": "-m deepconnotation.train --arch efficientnet_lite0 --weights imagenet "
    "--data data/fer96 --head-epochs 1 --epochs 5 --rate 2e-3 --fine-tune 0.2 --ema 0.998 "
    f"{LITE0_FACES} --run snapshots/fer-lite0",
}
EXPRESSIONS = f"{LITE0} --head-epochs 0 --zoom 0.15 --cutout 0.25 --monitor val_accuracy"
FER_TWICE = {  # all layers and live batch normalisation, at 64 pixels first, which is faster
    "data/fer64": f"{FER_AT} --size 64 --out data/fer64",
    "snapshots/fer-lite0-live": "-m deepconnotation.train --arch efficientnet_lite0 "
    "--weights imagenet --data data/fer64 --epochs 10 --rate 1e-3 --ema 0.998 "
    f"{EXPRESSIONS} --run snapshots/fer-lite0-live",
    "data/fer96-as-64": f"{FER_AT} --size 96 --out data/fer96-as-64",
    "data/fer96-as-64 as data/fer64": "data_tools/split.py data/fer96-as-64 --like data/fer64",
    "snapshots/fer-lite0-96": "-m deepconnotation.train --arch efficientnet_lite0 "
    "--weights snapshots/fer-lite0-live --data data/fer96-as-64 --epochs 6 --rate 5e-4 "
    f"--ema 0.998 {EXPRESSIONS} --run snapshots/fer-lite0-96",
}
FACES_TAUGHT = {  # FER2013's pictures beside the faces, labelled by two nets of the faces
    **FACES96,
    **by_name("data/faces128", 128),
    "data/faces128-names as data/faces96-names": "data_tools/split.py data/faces128-names --like "
    "data/faces96-names",
    "data/fer2013-128": f"{PREPARE} {DATA}/fer2013 --dataset fer2013 --grey --size 128 --out "
    "data/fer2013-128",
    "snapshots/expressions-teacher": "-m deepconnotation.train --arch efficientnet_lite0 "
    "--weights snapshots/fer2013 --data data/faces128-names --epochs 6 --rate 4e-4 --class-weights "
    f"sqrt --ema 0.995 {EXPRESSIONS} --seed 20 --run snapshots/expressions-teacher",
    "data/faces128-taught": "-m deepconnotation.pseudo snapshots/expressions-teacher "
    "snapshots/expressions --data data/faces128-names --more data/fer2013-128 --out "
    "data/faces128-taught",
}
FROM_FER = (
    "--arch resnet --weights snapshots/fer --width 32 --epochs 12 --rate 0.03 "
    "--class-weights sqrt --label-smoothing 0.1 --shift 0.08 --rotate 10 --zoom 0.1 --ema 0.995 "
    "--monitor val_loss --test-flip --l2 2.5e-4"
)
#: name -> (commands that come before, each with the folder it makes, arguments of train)
RECIPES = {
    "faces": ({"data/faces": FACES["data/faces"], **FER}, f"{FROM_FER} --data data/faces"),
    "faces-names": (  # the same on the weaker split
        {**FACES, **FER},
        f"{FROM_FER} --data data/faces-names",
    ),
    "faces-lite0": (  # the same split, at the pictures' own size
        {
            **FACES96,
            **FER_LITE0,
            "snapshots/faces96-probe": "-m deepconnotation.embed efficientnet_lite0 --data "
            "data/faces96-names --out snapshots/faces96-probe",
        },
        "--arch efficientnet_lite0 --weights snapshots/fer-lite0 --data data/faces96-names "
        f"--epochs 9 --rate 3e-4 --class-weights sqrt --ema 0.998 {LITE0_FACES}",
    ),
    "expressions": (  # what snapshots/expressions held until 2026-11-30, and is taught by
        {**FER_TWICE, **FACES96},
        "--arch efficientnet_lite0 --weights snapshots/fer-lite0-96 --data data/faces96-names "
        f"--epochs 6 --rate 4e-4 --class-weights sqrt --ema 0.995 {EXPRESSIONS}",
    ),
    "expressions-taught": (
        FACES_TAUGHT,
        "--arch efficientnet_lite0 --weights snapshots/fer2013 --data data/faces128-taught "
        "--distributions --freeze-until stage2 --epochs 4 --rate 6e-4 --head-epochs 0 --ema 0.999 "
        "--optimizer adamw --weight-decay 0.02 --dropout 0.4 --stochastic-depth 0.15 --shift 0.1 "
        "--rotate 15 --zoom 0.2 --contrast 0.2 --cutout 0.3 --monitor val_loss --test-flip",
    ),
    "fractal-faces": (  # 172 pictures of each of six classes, the original's settings
        {
            "data/faces32": f"{PREPARE} {DATA}/facial_expressions --dataset facial_expressions "
            "--size 32 --drop contempt --drop fear --fractions 80/20 --out data/faces32",
            "data/faces32-even": "data_tools/balance.py data/faces32 --down-to smallest "
            "--out data/faces32-even",
        },
        "--preset deepconnotation-fractal --epochs 10 --data data/faces32-even",
    ),
    "fi32": (
        {
            "data/fi32": f"{FI} --size 32 --out data/fi32",
            **FI_TEACHER,
            "data/fi32 as data/fi128": "data_tools/split.py data/fi32 --like data/fi128",
        },
        "--arch resnet --data data/fi32 --teacher snapshots/fi128-lite0 --stem 3x3 --width 16 "
        "--epochs 20 --dropout 0 --l2 2.5e-4 --monitor val_accuracy --test-flip",
    ),
    "fi-lite0": (
        {
            "data/fi192": f"{FI} --size 192 --out data/fi192",
            "snapshots/fi192-probe": "-m deepconnotation.embed efficientnet_lite0 --data "
            "data/fi192 --out snapshots/fi192-probe",
        },
        "--arch efficientnet_lite0 --weights imagenet --data data/fi192 --freeze-until stage2 "
        "--head-epochs 1 --epochs 7 --optimizer adamw --weight-decay 0.02 --rate 2e-3 "
        "--fine-tune 0.15 --ema 0.998 --label-smoothing 0.1 --dropout 0.3 --stochastic-depth 0.1 "
        "--zoom 0.2 --contrast 0.2 --monitor val_accuracy --test-flip",
    ),
    "fi-stage4": (  # fewer layers tuned, an epoch less, mixup
        {"data/fi192": f"{FI} --size 192 --out data/fi192"},
        "--arch efficientnet_lite0 --weights imagenet --data data/fi192 --freeze-until stage4 "
        "--head-epochs 1 --epochs 6 --optimizer adamw --weight-decay 0.02 --rate 2e-3 "
        "--fine-tune 0.2 --mixup 0.2 --ema 0.998 --label-smoothing 0.1 --dropout 0.3 "
        "--stochastic-depth 0.1 --zoom 0.2 --contrast 0.2 --monitor val_accuracy --test-flip",
    ),
    "fi64": (
        {"data/fi64": f"{FI} --size 64 --out data/fi64", **FI_TEACHER},
        "--arch resnet --data data/fi64 --teacher snapshots/fi128-lite0 --width 32 --epochs 36 "
        "--dropout 0 --l2 2.5e-4 --zoom 0.2 --contrast 0.2 --monitor val_accuracy --test-flip",
    ),
}  # fmt: skip


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    before, training = RECIPES[args.recipe]
    make(before)
    folders = [f"snapshots/{args.recipe}-s{seed}" for seed in args.seeds]
    for folder, seed in zip(folders, args.seeds, strict=True):
        train(Path(folder), seed, training)
    print(compare.as_markdown(compare.load(folders)))


def make(before: dict[str, str]) -> None:
    """Run the commands that come before a recipe."""
    for folder, command in before.items():
        if folder.startswith("snapshots/"):
            finish(Path(folder), shlex.split(command))
        elif PREPARE in command or not (Path(folder) / "dataset.json").exists():
            python(*shlex.split(command))  # does nothing where all is there already


def train(folder: Path, seed: int, arguments: str) -> None:
    words = ["-m", "deepconnotation.train", *shlex.split(arguments)]
    finish(folder, [*words, "--run", str(folder), "--seed", str(seed)])


def finish(folder: Path, words: list[str]) -> None:
    """Run a command that makes a folder with figures, or go on with it, unless they are there."""
    if (folder / "metrics.json").exists():
        return
    if (folder / "run.json").exists():
        words = ["-m", "deepconnotation.train", "--resume", str(folder)]
    python(*words)


def python(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True)


if __name__ == "__main__":
    run_command(main)
