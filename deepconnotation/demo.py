"""A page on this machine: drop pictures in, see what a run answers.

    python -m deepconnotation.demo
    python -m deepconnotation.demo snapshots/mine --port 8000
    python -m deepconnotation.demo snapshots/expressions --faces

Opens on 127.0.0.1 unless --host says otherwise, needs no network, and keeps no picture: what was
uploaded is deleted after a minute, and all of it at the end (Ctrl-C). Needs the extra [demo].
"""

import argparse
import os
import tempfile
import threading
from pathlib import Path

from deepconnotation import run
from deepconnotation.console import UserError, argument_parser, run_command, whole_number

SHIPPED = Path("snapshots/evoked")
LARGEST = "20mb"  # of an uploaded file


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.demo")
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", default=str(SHIPPED), help=f"folder of the run [{SHIPPED}]"
        )  # fmt: skip
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets others in "
        "[127.0.0.1]")  # fmt: skip
    add("--port", type=whole_number(1, 65535), default=7860, help="[7860]")
    add("--faces", action=argparse.BooleanOptionalAction, help="answer the faces in the pictures "
        "(extra [faces]; default: as the run's were prepared)")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.run == str(SHIPPED) and not SHIPPED.exists():  # installed without a clone, or elsewhere
        raise UserError(f"{SHIPPED}, which comes with a clone, is not in this folder; name a run")
    found = run.load(args.run)
    with tempfile.TemporaryDirectory(prefix="deepconnotation-demo-") as uploads:
        # Gradio reads these when it is imported: no usage figures, no hub, no upload left behind.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1",
                          GRADIO_TEMP_DIR=uploads)  # fmt: skip
        try:
            from deepconnotation import demo_page
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise UserError("gradio is not installed; it comes with pip install "
                            "deepconnotation[demo]") from None  # fmt: skip
        page = demo_page.build(found, Path(uploads), found.cuts_faces(args.faces))
        try:
            page.launch(
                server_name=args.host, server_port=args.port, max_file_size=LARGEST, quiet=True,
                prevent_thread_lock=True, footer_links=[], ssr_mode=False, theme=demo_page.theme(),
                css=demo_page.CSS, allowed_paths=[uploads], run_history=False,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"--port {args.port}: {error}; choose another") from None
        print(f"open http://{args.host}:{args.port} in a browser; Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


if __name__ == "__main__":
    run_command(main)
