"""So that python -m deepconnotation.cloud is the command."""

from deepconnotation.cloud import main
from deepconnotation.console import run_command

if __name__ == "__main__":
    run_command(main)
