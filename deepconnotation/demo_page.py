"""The page of `demo`: one picture with its reasons, several as a gallery, the model card."""

import csv
from functools import cached_property
from pathlib import Path

import gradio as gr
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from deepconnotation import card, heatmap
from deepconnotation.data.decode import decode
from deepconnotation.data.sources import toy
from deepconnotation.predict import answering, label_of, predict, read
from deepconnotation.predictions import spreadsheet_safe
from deepconnotation.run import Run

MOST = 500  # pictures at once
EXAMPLE_SIDE = 256  # pixels
CSS = """
footer { display: none !important; }
.gradio-container { max-width: min(70rem, 100vw) !important; margin: 0 auto !important; }
#gallery .caption-label { white-space: normal; line-height: 1.2; }  /* a phone would cut it */
"""
KEPT = ["download", "fullscreen"]  # of Gradio's buttons; "share" would send a picture away
BROWSERS = {"JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP"}  # what they show themselves
#: Column of the table -> its width; narrow ones break words on a phone.
OF_CLASSES = {"answer": "200px", "confidence": "120px", "also possible": "200px"}
OF_AXES = {"valence": "110px", "arousal": "110px"}


def theme() -> gr.themes.Base:
    """Return a theme with the system's own fonts: others would be fetched."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])


def build(found: Run, folder: Path, faces: bool = False) -> gr.Blocks:
    """Build the page.

    Args:
        found: the run that answers.
        folder: where its examples and tables may lie; the caller deletes it.
        faces: answer the faces in the pictures.
    """
    # Gradio would open the file, and say no more than "Error" of one that it cannot. A class of our
    # own is no way: of such it writes a .pyi beside this file.
    gr.Image.preprocess = lambda _, upload: upload and upload.path
    page = Page(found, folder, faces)
    title = f"{found.config['arch']} on {found.config['data']['name']}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, 60)) as blocks:
        gr.Markdown(f"# {card.question(found.config)}\n\n{page.note()}")
        with gr.Tab("Picture"):
            _one(page)
        with gr.Tab("Several"):
            _several(page)
        with gr.Tab("Model"):
            gr.Markdown(page.card())
    return blocks


def _one(page: "Page") -> None:
    with gr.Row():
        with gr.Column():
            picture = gr.Image(
                label="Picture", type="filepath", image_mode=None, height=320, format="png",
                sources=["upload", "webcam", "clipboard"], elem_id="picture",
            )  # fmt: skip
            if not page.faces:  # they show none
                gr.Examples(page.examples(), picture, label="Examples, drawn by the program")
        with gr.Column():
            words = gr.Markdown(page.invitation, elem_id="answer")
            told = page.found.tells_classes
            bars = gr.Label(label="Probabilities", elem_id="bars", visible=told)
            why = gr.Button("Where does it look?", elem_id="why", visible=told)
            reasons = gr.Image(
                label="The brighter, the more a place speaks for the answer", interactive=False,
                visible=False, elem_id="heatmap", buttons=KEPT,
            )  # fmt: skip
            affect = gr.Plot(label="Valence and arousal", visible=bool(page.found.axes))
    picture.upload(page.shown, picture, picture)
    picture.change(page.answer, picture, [words, bars, affect, reasons])
    why.click(page.heatmap, picture, [reasons, words])


def _several(page: "Page") -> None:
    files = gr.File(label="Pictures, or a folder", file_count="multiple", elem_id="files")
    folder = gr.UploadButton("Choose a folder", file_count="directory")
    words = gr.Markdown("", elem_id="several")
    label = "Answers" if page.found.tells_classes else "Valence, arousal"
    gallery = gr.Gallery(label=label, columns=3, object_fit="contain", elem_id="gallery",
                         buttons=KEPT)
    table = gr.Dataframe(headers=[*page.columns], label="Table", interactive=False, wrap=True,
                         column_widths=[*page.columns.values()])
    download = gr.DownloadButton("Download the table (CSV)", visible=False, elem_id="download")
    for source in (files, folder):
        event = source.upload if source is folder else source.change
        event(page.answer_all, source, [words, gallery, table, download])


class Page:
    """What the page's parts ask for.

    Attributes:
        found: the run that answers.
        folder: where examples and tables lie.
        faces: whether faces are cut out and answered.
    """

    def __init__(self, found: Run, folder: Path, faces: bool = False):
        """Remember them, and make once what answers."""
        self.found, self.folder, self.faces = found, folder, faces
        self.answers = answering(found)

    @cached_property
    def maps(self) -> heatmap.Maps:
        """What draws heatmaps; it takes seconds to make."""
        return heatmap.grad_cam(self.found.model)

    @property
    def columns(self) -> dict[str, str]:
        """Column -> width of the table of several pictures."""
        told = {**(OF_CLASSES if self.found.tells_classes else {}),
                **(OF_AXES if self.found.axes else {})}  # fmt: skip
        return {"file": "180px", **told, "remark": "250px"}

    def note(self) -> str:
        """Return what answers do not mean, as Markdown."""
        _, bad = card.uses(self.found.config)
        text = f"*{bad[0]}*"
        if self.found.config["data"]["drawn"]:
            text += "\n\n**Trained on drawn pictures: its answers say nothing about emotions.**"
        return text

    def card(self) -> str:
        """Return the model card, as Markdown."""
        path = self.found.path / "card.md"
        return path.read_text("utf-8") if path.is_file() else "This run has no card.md."

    @property
    def invitation(self) -> str:
        """What is said while there is no picture."""
        return f"Drop a picture in{'' if self.faces else ', or choose an example'}."

    def examples(self) -> list[str]:
        """Draw four pictures and return their paths."""
        paths = []
        for emotion in ("amusement", "awe", "fear", "sadness"):
            path = self.folder / f"drawn-{emotion}.png"
            Image.fromarray(toy.draw(emotion, 1, EXAMPLE_SIDE)).save(path)
            paths.append(str(path))
        return paths

    def shown(self, path: str):
        """Return a picture that no browser shows as one that it does; leave the others."""
        good = read(Path(path), self.found.size)[0]["status"] == "ok"
        seen = _seen(path) if good else path
        return gr.skip() if seen == path else seen  # setting the same again would answer it again

    def answer(self, path: str | None):
        """Return words, bars, the point of valence and arousal, and no heatmap yet."""
        hidden = gr.update(value=None, visible=False)
        if path is None:
            return self.invitation, None, None, hidden
        row, *others = self._rows([path])
        if row["status"] != "ok":
            return self._sorry(row), None, None, hidden
        bars = dict(zip(self.found.told_classes, row.get("probabilities", []), strict=True))
        more = f"\n\nThe largest of {len(others) + 1} faces." if others else ""
        return self._words(row) + more, bars or None, self._point(row), hidden

    def _rows(self, paths: list[str]) -> list[dict]:
        return list(predict(self.found, map(Path, paths), self.answers, self.faces))

    def _sorry(self, row: dict) -> str:
        return f"This cannot be answered: {row['reason']}. Try another picture."

    def _words(self, row: dict) -> str:
        if "confidence" not in row:
            return f"### valence {row['valence']:+.2f}, arousal {row['arousal']:+.2f}"
        text = f"### {_told(row)}"
        if len(row.get("set", [])) > 1:
            others = ", ".join(name for name in row["set"] if name != row["label"])
            text += (f"\n\nNot sure: {others} would be plausible, too. Such sets are made to hold "
                     "the label of nine pictures in ten.")  # fmt: skip
        return text

    def _point(self, row: dict) -> Figure | None:
        if not self.found.axes:
            return None
        figure = Figure(figsize=(3.4, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.scatter(row["valence"], row["arousal"], s=90, color="#c8601a", clip_on=False)
        axes.axhline(0, color="#777777", linewidth=0.5)
        axes.axvline(0, color="#777777", linewidth=0.5)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="unpleasant - pleasant",
                 ylabel="calm - excited")  # fmt: skip
        return figure

    def heatmap(self, path: str | None):
        """Return Grad-CAM over the picture, and words."""
        if path is None:
            return gr.update(), "First drop a picture in."
        row = read(Path(path), self.found.size, self.faces)[0]
        if row["status"] != "ok":
            return gr.update(), self._sorry(row)
        told = self._rows([path])[0]
        label = self.found.classes.index(told["label"])
        values = self.maps(row["pixels"][None], [label])[0]
        shown = heatmap.over(np.asarray(row["pixels"]), values)
        return gr.update(value=shown, visible=True), self._words(told)

    def answer_all(self, paths: list[str] | None):
        """Return words, a gallery, the table and the file that holds it."""
        if not paths:
            return "", [], None, gr.update(visible=False)
        left = len(paths) - MOST
        rows = self._rows(paths[:MOST])
        cells = [self._cells(row) for row in rows]
        shown = [(_seen(row["file"], row.get("box")), _told(row)) for row in rows
                 if row["status"] == "ok"]  # fmt: skip
        path = self.folder / f"answers-{abs(hash(tuple(paths))):x}.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([spreadsheet_safe(str(cell)) for cell in row] for row in cells)
        words = f"{len(shown)} of {len(rows)} pictures answered."
        if self.faces:
            words = f"{len(shown)} faces in {len(paths[:MOST])} pictures answered."
        if left > 0:
            words += f" {left} more were left out: at most {MOST} at once."
        table = pd.DataFrame(cells, columns=[*self.columns])
        return words, shown, table, gr.update(value=str(path), visible=True)

    def _cells(self, row: dict) -> list:
        name = Path(row["file"]).name
        if row["status"] != "ok":
            return [name, *[""] * (len(self.columns) - 2), row["reason"]]
        told = []
        if self.found.tells_classes:
            others = [c for c in row.get("set", []) if c != row["label"]]
            told = [label_of(row), f"{row['confidence']:.2f}", ", ".join(others)]
        return [name, *told, *(f"{row[axis]:+.2f}" for axis in self.found.axes), ""]


def _seen(path: str, box: list[int] | None = None) -> str | Image.Image:
    """Return what a browser can show of a picture that `decode` reads, or of a part of it."""
    if box:
        return decode(Path(path).read_bytes()).image.crop(box)
    with Image.open(path) as image:
        if image.format in BROWSERS:
            return path
    return decode(Path(path).read_bytes()).image


def _told(row: dict) -> str:
    """Return an answer in as few words as there is room for below a picture."""
    if "confidence" not in row:
        return f"{row['valence']:+.2f}, {row['arousal']:+.2f}"
    share = "" if "labels" in row else f", {100 * row['confidence']:.0f} %"
    return label_of(row) + share
