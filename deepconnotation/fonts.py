"""Which font has the letters of a text, where a picture and not a browser shows it."""

from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

OWN = "DejaVu Sans"  # comes with Matplotlib: Latin, Greek, Cyrillic, Arabic and more
BOXES = "Last Resort"  # comes with it, too: a box for every letter


def font_for(text: str) -> str:
    """Return the file of a font of this machine that has all letters of a text; of Matplotlib's own
    where it has them, or no font has."""
    fonts = [font for font in fontManager.ttflist if not font.name.startswith(BOXES)]
    fonts.sort(key=lambda f: (f.name != OWN, f.style != "normal", abs(f.weight - 400), f.fname))
    files = [font.fname for font in fonts]
    letters = {ord(letter) for letter in text if not letter.isspace()}
    return next((f for f in files if letters <= FT2Font(f).get_charmap().keys()), files[0])
