"""Bytes to pixels: the only place that opens a picture.

Preparation, training, prediction and the page all call `decode`, so they cannot disagree about
orientation, colour or the resize filter. What cannot be shown is refused with a named reason.
"""

import re
import warnings
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

MIN_SIDE = 8
MAX_PIXELS = 100_000_000
WHITE = (255, 255, 255)

Image.init()
#: Bitmaps only: Pillow would hand an EPS file to Ghostscript, for example.
FORMATS = tuple(
    f for f in ("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
    if f in Image.OPEN
)  # fmt: skip

#: Reason of a refusal -> plain words.
REASONS = {
    "empty": "the file has no bytes",
    "html": "a web page, not a picture",
    "gzip": "gzip-compressed bytes, not a picture",
    "svg": "an SVG drawing, not a bitmap",
    "heic": "a HEIC picture, which is not supported; save it as JPEG",
    "avif": "an AVIF picture, which this Pillow cannot read; save it as JPEG",
    "truncated": "the picture's data end too early",
    "too_small": f"thinner than {MIN_SIDE} pixels",
    "too_many_pixels": f"more than {MAX_PIXELS:,} pixels",
    "not_a_picture": "no picture format that is known",
    "damaged": "the picture's data are damaged",
}

# Pillow warns of odd EXIF and of large pictures; both are dealt with here.
warnings.filterwarnings("ignore", module=r"PIL\b")

_CLUTTER = re.compile(r"^(\..*|thumbs\.db|desktop\.ini|.*\.(part|tmp|crdownload))$", re.IGNORECASE)
_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: A large JPEG may be read at half, a quarter or an eighth of its size, but at least this factor of
#: the reduction is left to Lanczos.
_DRAFT_MARGIN = 2


class Rejected(ValueError):
    """Bytes that cannot be shown as a picture.

    Attributes:
        reason: a key of `REASONS`.
        detail: one line of plain words.
    """

    def __init__(self, reason: str, detail: str = ""):
        self.reason = reason
        self.detail = detail or REASONS[reason]
        super().__init__(f"{reason}: {self.detail}")


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        width: pixels after orientation, before resizing.
        height: the same.
        mode: colour mode as stored, for example "L", "RGB" or "CMYK".
    """

    pixels: np.ndarray
    width: int
    height: int
    mode: str


def is_clutter(name: str) -> bool:
    """Tell whether a file's name says that it is a system or partial file and no picture."""
    return _CLUTTER.match(name) is not None


def decode(data: bytes, size: tuple[int, int] | None = None, grey: bool = False) -> Picture:
    """Turn the bytes of a picture file into upright RGB pixels of the asked size.

    The content decides, never a file's name. Orientation is applied, transparency lies on white,
    16 bits become 8, an animation shows its first frame. Colour profiles are ignored, as every
    training set of the field was made without them.

    Args:
        data: the whole file.
        size: (height, width) to resize to, whatever the aspect ratio, as the original systems did;
            None keeps the picture's own.
        grey: replace the colours by their luma (ITU-R 601).

    Raises:
        Rejected: for anything that is not a whole picture of at least `MIN_SIDE` pixels a side and
            at most `MAX_PIXELS` pixels.
    """
    image = _open(data)
    mode = image.mode
    width, height = image.size
    try:
        if size is not None and image.format in ("JPEG", "MPO"):
            _draft(image, size)
        image.load()
        if image.format not in ("JPEG", "MPO"):
            width, height = image.size  # Pillow has turned a TIFF by now
        orientation = _orientation(image)
        image = _to_rgb(image)
    except Exception as error:  # Damaged files make Pillow raise nearly anything.
        raise _refusal(error) from None
    if size is not None:
        turned = size if orientation >= 5 else size[::-1]  # (width, height) as stored
        image = _resize(image, turned, (width, height))
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    if orientation >= 5:
        width, height = height, width
    if grey:
        image = image.convert("L")
    pixels = np.asarray(image)
    if grey:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return Picture(pixels, width, height, mode)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise Rejected("empty")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise Rejected("too_many_pixels") from None
    except UnidentifiedImageError:
        raise Rejected(_sniff(data)) from None
    except Exception as error:
        raise _refusal(error) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Rejected("too_many_pixels", f"{width}x{height}, {REASONS['too_many_pixels']}")
    if min(width, height) < MIN_SIDE:
        raise Rejected("too_small", f"{width}x{height}, {REASONS['too_small']}")
    return image


def _sniff(data: bytes) -> str:
    """Say what bytes are that Pillow does not know."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    brand = data[4:12]
    if data[:2] == b"\x1f\x8b":
        return "gzip"
    if b"<svg" in head:
        return "svg"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "html"
    if brand.startswith(b"ftyp"):
        return "avif" if brand[4:] in (b"avif", b"avis") else "heic"
    if data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n" or data[:4] == b"GIF8":
        return "truncated"
    return "not_a_picture"


def _refusal(error: Exception) -> Rejected:
    if isinstance(error, Rejected):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return Rejected("too_many_pixels")
    text = " ".join(str(error).split())[:120]
    short = ("truncated", "eof", "unexpected end", "not enough", "incomplete", "buffer")
    if isinstance(error, EOFError) or any(word in text.lower() for word in short):
        return Rejected("truncated")
    return Rejected("damaged", f"{REASONS['damaged']} ({text or type(error).__name__})")


def _draft(image: Image.Image, size: tuple[int, int]) -> None:
    """Let the JPEG decoder reduce a much larger picture; never below twice the asked size."""
    # The picture may be turned by a quarter afterwards: the longer side must do for both.
    need = _DRAFT_MARGIN * max(size)
    if min(image.size) >= 2 * need:
        image.draft(None, (need, need))


def _resize(
    image: Image.Image, size: tuple[int, int], stored: tuple[int, int]
) -> Image.Image:
    """Resize to (width, height), from a picture that may have been read at a part of its size.

    Reduced reading rounds odd sizes up and pads; the box leaves the padding out.
    """
    if image.size == size == stored:
        return image
    scale = round(stored[0] / image.size[0])
    box = (0, 0, stored[0] / scale, stored[1] / scale)
    return image.resize(size, Image.Resampling.LANCZOS, box)


def _orientation(image: Image.Image) -> int:
    """Return EXIF orientation 1 to 8; 1 where the tag is missing, wrong or unreadable."""
    if not any(key in image.info for key in ("exif", "Raw profile type exif", "xmp")) and (
        image.format != "TIFF"
    ):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1
    except Exception:  # struct.error, SyntaxError, ...: the picture is worth more than its tag.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, WHITE)
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 and 32-bit greys to 8 bits; Pillow would clip them to white."""
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode.startswith("F"):
        low, high = values.min(), values.max()
        values = (values - low) * (255 / (high - low) if high > low else 0)
    else:
        # "I" holds 16-bit PNGs too, so only larger values tell of 32 bits.
        values = values / (257 if values.max(initial=0) <= 65_535 else 2**31 / 256)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
