"""What a loss or a way of sampling changes: each with several seeds, beside the plain loss.

    python benchmarks/objectives.py imbalance
    python benchmarks/objectives.py geometry --seeds 0 1 2 3 4

From the top of the repository. `imbalance`: faces at 96 pixels, people by name; EfficientNet-Lite0
after FER2013 (`seeds.py faces-lite0` makes both), of which only the last layer learns. `geometry`:
the drawn set, whose emotions have known polarities and places on Mikels' wheel. Finished runs are
not repeated. Prints mean and standard deviation over the seeds of figures on the test split.
"""

import json
from pathlib import Path

from seeds import PREPARE, RECIPES, make, train

from deepconnotation.compare import mean_and_spread
from deepconnotation.console import argument_parser, run_command

HEAD = (
    "--arch efficientnet_lite0 --weights snapshots/fer-lite0 --data data/faces96-names "
    "--freeze-until embedding --epochs 4 --batch 128 --optimizer adamw --rate 2e-3 "
    "--shift 0.05 --monitor val_loss"
)
DRAWN = "--arch resnet --data data/drawn --width 16 --epochs 6 --batch 32 --rate 0.05"
#: name -> commands that come before, arguments of train for all, those for each, figures to print
TABLES = {
    "imbalance": (RECIPES["faces-lite0"][0], HEAD, {
        "plain": "",
        "weighted": "--class-weights sqrt",
        "learned weights": "--class-weights learned",
        "focal": "--focal 2",
        "logit adjustment": "--logit-adjustment 0.5",
        "balanced sampling": "--balanced-sampling 3",
    }, ("accuracy", "balanced_accuracy", "macro_f1")),
    "geometry": ({
        "data/drawn": f"{PREPARE} data/drawings --dataset toy --size 32 --fractions 40/10/50 "
        "--out data/drawn",
    }, DRAWN, {
        "plain": "",
        "polarity": "--polarity 1",
        "wheel": "--wheel 2",
    }, ("accuracy", "polarity_accuracy", "ecc", "emc")),
}  # fmt: skip


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    before, base, objectives, names = TABLES[args.table]
    make(before)
    lines = [f"| | {' | '.join(name.replace('_', ' ') for name in names)} |",
             "|---|" + "---|" * len(names)]  # fmt: skip
    for objective, extra in objectives.items():
        found = []
        for seed in args.seeds:
            folder = Path(f"snapshots/{args.table}-{objective.replace(' ', '-')}-s{seed}")
            train(folder, seed, f"{base} {extra}")
            found.append(json.loads((folder / "metrics.json").read_text("utf-8")))
        cells = []
        for name in names:
            values = [f[name]["value"] if name in f else f["geometry"][name] for f in found]
            cells.append(mean_and_spread(values))
        lines.append(f"| {objective} | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    run_command(main)
