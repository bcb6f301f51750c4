"""One command for everything: deepconnotation COMMAND ..., or python -m deepconnotation COMMAND ...

    deepconnotation prepare PICTURES --dataset folder --size 64 --out data/mine
    deepconnotation train --arch resnet --data data/mine --run snapshots/mine
    deepconnotation predict snapshots/mine photo.jpg

Each COMMAND --help tells more. Completion in bash or zsh, with the extra [completion]:

    eval "$(register-python-argcomplete deepconnotation)"
"""

import os
import sys
from importlib import import_module

from deepconnotation import __version__
from deepconnotation.console import argument_parser, run_command

#: command -> what it does; the module of its name holds its `main`
COMMANDS = {
    "prepare": "make a prepared data set from addresses, an archive or a folder",
    "split": "split a prepared data set anew",
    "audit": "look for copies, leaks, signs, shortcuts and bad labels in a data set",
    "inspect_images": "look at pictures of a data set, or at those that were not taken",
    "balance": "count classes; fill smaller ones up or cut larger ones down for training",
    "train": "train a model, evaluate it once on the test split, and report",
    "crossval": "train and evaluate in folds, so that every picture is tested once",
    "evaluate": "evaluate a run, or compare several",
    "predict": "predict pictures",
    "explain": "show where in pictures a run finds its reasons",
    "embed": "turn pictures into embeddings, and probe them linearly",
    "ensemble": "average the answers or weights of several runs",
    "pseudo": "add another data set's pictures for training, labelled by runs",
    "tune": "search for settings",
    "export": "write a run for other programs",
    "video": "follow the emotion of a video or a camera over time",
    "reproduce": "run the published rows of the original projects",
    "cloud": "the original projects' baselines on Amazon's services",
    "demo": "a page on this machine: drop pictures in, see what a run answers",
}


def main() -> int | None:
    """Hand the arguments to a command's own `main`."""
    words = _typed() if "_ARGCOMPLETE" in os.environ else sys.argv[1:]
    if words and words[0] in COMMANDS:
        sys.argv = [f"deepconnotation {words[0]}", *words[1:]]
        return import_module(f"deepconnotation.{words[0]}").main(words[1:])
    width = max(map(len, COMMANDS)) + 2
    table = "\n".join(f"  {name:{width}}{what}" for name, what in COMMANDS.items())
    parser = argument_parser(f"{__doc__}\ncommands:\n{table}", "deepconnotation")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.parse_args()
    return None


def _typed() -> list[str]:
    """Return the words that a shell wants to be completed, the command's name among them once it
    is whole."""
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = line.split(" ")[1:]
    if len(words) < 2:
        return []
    os.environ["_ARGCOMPLETE"] = "2"  # argcomplete counts the words that lead to the parser
    return words


def command() -> None:
    """Run as the installed script."""
    run_command(main)


if __name__ == "__main__":
    command()
