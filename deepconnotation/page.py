"""Parts of self-contained HTML pages: tables, figures, pictures."""

import base64
import html
import io
import re
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

THUMBNAIL, STRIP = 96, 160  # pixels

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 Georgia, 'Times New Roman', serif; color: #222; background: #fff;
       max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ccc; }
.headline { font-size: 1.1rem; }
.notice { border-left: 4px solid #c8601a; background: #fdf3ea; padding: .5rem .8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font: 14px/1.4 system-ui, sans-serif; margin: .5rem 0; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; word-break: break-word; min-width: 9rem; }
td.text:first-child { white-space: nowrap; }
.confusion img { max-width: min(100%, 44rem); }
img { max-width: 100%; height: auto; }
code, pre { font: 13px/1.4 ui-monospace, monospace; background: #f4f4f4; }
pre { padding: .6rem; white-space: pre-wrap; word-break: break-word; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: .7rem;
          font: 12px/1.3 system-ui, sans-serif; }
.gallery figure { margin: 0; break-inside: avoid; }
.gallery img { width: 96px; height: 96px; image-rendering: auto; }
.strip { display: inline-block; margin: 0 1rem 1rem 0; break-inside: avoid;
         font: 12px/1.3 system-ui, sans-serif; }
.strip div { display: flex; gap: 4px; }
.strip img { width: clamp(90px, 24vw, 150px); }
.strip figcaption { width: 0; min-width: 100%; }
@media (max-width: 40rem) { td { white-space: normal; } }
@media (max-width: 30rem) { body { padding: .6rem; } table { font-size: 13px; }
                            th, td { padding: .25rem .3rem; } }
@media print { body { max-width: none; font-size: 11pt; } h2 { break-after: avoid; } }
"""


def page(title: str, parts: list[str]) -> str:
    """Return a whole page that needs no other file."""
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def escape(value: object) -> str:
    """Return a value as text that HTML shows as it is."""
    return html.escape(str(value))


def section(title: str, content: str) -> str:
    """Return a heading with what belongs to it."""
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>"


def table(header: list[str], rows: list[list[object]], text: bool = False) -> str:
    """Return a table.

    Args:
        header: of the columns; empty for none.
        rows: the cells.
        text: whether they are words that may wrap, not numbers.
    """
    kind = ' class="text"' if text else ""
    head = "".join(f"<th{kind}>{escape(h)}</th>" for h in header)
    lines = ["".join(f"<td{kind}>{_unbroken(escape(c))}</td>" for c in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def _unbroken(cell: str) -> str:
    """Return a cell whose ranges, like 0.84 to 0.87, stay on one line on a narrow page."""
    return re.sub(r"(?<=\d) (to) (?=[-+\d])| (±) ", r"&nbsp;\1\2&nbsp;", cell)


def number(value: float | None) -> str:
    """Return a figure with three decimals, "-" for none."""
    return "-" if value is None else f"{value:.3f}"


def figure_image(figure: Figure, alt: str) -> str:
    """Return a Matplotlib figure as an embedded SVG, whose words the browser sets: it has letters
    of all scripts."""
    stream = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(stream, format="svg", dpi=150, bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def gallery(pictures: list[tuple[np.ndarray, str, str]]) -> str:
    """Return small pictures side by side.

    Args:
        pictures: uint8 (height, width, 3), RGB; the words below it; its name.
    """
    cells = [
        f'<figure><img alt="{escape(name)}: {escape(words)}" src="{_thumbnail(pixels)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for pixels, words, name in pictures
    ]
    return f'<div class="gallery">{"".join(cells)}</div>'


def strip(pictures: Sequence[np.ndarray], titles: Sequence[str], words: str) -> str:
    """Return pictures of one thing in a row, with words below them.

    Args:
        pictures: uint8 (height, width, 3), RGB.
        titles: of each.
        words: about all of them.
    """
    images = "".join(
        f'<img alt="{escape(title)} of {escape(words)}" src="{_thumbnail(pixels, STRIP)}">'
        for pixels, title in zip(pictures, titles, strict=True)
    )
    caption = f"<figcaption>{escape(words)}</figcaption>"
    return f'<figure class="strip"><div>{images}</div>{caption}</figure>'


def _thumbnail(pixels: np.ndarray, side: int = THUMBNAIL) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
