"""Add the pictures of one prepared data set to the training split of another.

    python benchmarks/join.py data/faces data/fer data/faces-fer

Dev and test stay what they are. Pictures that are nearly equal to one that was there are left out.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from deepconnotation.console import UserError, run_command
from deepconnotation.data import manifest, prepare


def main() -> None:
    first, second, target = (Path(argument) for argument in sys.argv[1:4])
    if manifest.exists(target):
        return
    info, other = manifest.read_info(first), manifest.read_info(second)
    if (info.classes, info.height, info.grey) != (other.classes, other.height, other.grey):
        raise UserError(f"{second}: other classes, another size or another colour than {first}")
    shutil.copytree(first, target, ignore=shutil.ignore_patterns(".cache"), dirs_exist_ok=True)
    there, more = manifest.read(first), manifest.read(second)
    more["id"] = f"{other.name}_" + more["id"]
    more["group"] = more["group"].mask(more["group"] != "", f"{other.name}_" + more["group"])
    for row in more.itertuples():
        file = manifest.file_of("train", row.label, row.id)
        shutil.copyfile(second / row.file, target / file)
    more["file"] = [manifest.file_of("train", *key) for key in more[["label", "id"]].to_numpy()]
    more["split"] = ""
    table = pd.concat([there, more], ignore_index=True).fillna("")
    official = table["split"] != ""
    table = prepare.resplit(target, table, {"train": 1.0}, 0, official)
    words = f"{info.split}; {len(table) - len(there)} pictures of {other.name} in train"
    for file in set(more["file"]) - set(table["file"]):
        (target / file).unlink()
    manifest.move_to(target, table, replace(info, split=words))
    print(prepare.summary(target))


if __name__ == "__main__":
    run_command(main)
