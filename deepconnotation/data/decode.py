"""Bytes to pixels: the only place that opens a picture.

Preparation, training, prediction and the page all call `decode`, so they cannot disagree about
orientation, colour or the resize filter. What cannot be shown is refused with a named reason.
"""

import functools
import logging
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
    "archive": "an archive, not a picture; unpack it",
    "film": "a film, not a picture; deepconnotation video follows one",
    "svg": "an SVG drawing, not a bitmap",
    "heic": "a HEIC picture; pip install deepconnotation[heic] reads it, or save it as JPEG",
    "avif": "an AVIF picture, which this Pillow cannot read; save it as JPEG",
    "truncated": "the picture's data end too early",
    "too_small": f"thinner than {MIN_SIDE} pixels",
    "bad_box": f"less than {MIN_SIDE} pixels of the box lie on the picture",
    "no_face": "no face was found",
    "too_many_pixels": f"more than {MAX_PIXELS:,} pixels",
    "not_a_picture": "no picture format that is known",
    "damaged": "the picture's data are damaged",
}

# Pillow warns of odd EXIF and of large pictures; both are dealt with here.
warnings.filterwarnings("ignore", module=r"PIL\b")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_TAGS = re.compile(rb"<(svg|!doctype html|html|head|body)\b")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_FILMS = (b"iso", b"mp4", b"avc1", b"M4V", b"qt", b"3g", b"dash", b"MSNV")  # MP4's kinds, QuickTime
#: How a file starts that is something else: zip, RAR, 7z; Matroska and WebM.
_OTHERS = {b"PK\3\4": "archive", b"Rar!": "archive", b"7z\xbc\xaf": "archive",
           b"\x1aE\xdf\xa3": "film"}  # fmt: skip
#: How a file starts -> how it ends if it is whole.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82", b"GIF8": b";"}
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
        image: upright, of the asked size, mode "RGB" or "L"; grey stays one channel, which
            resizes, hashes and compresses three times as fast to the same values.
        width: pixels after orientation, before resizing.
        height: the same.
        mode: colour mode as stored, for example "L", "RGB" or "CMYK".
    """

    image: Image.Image
    width: int
    height: int
    mode: str

    @property
    def pixels(self) -> np.ndarray:
        """The picture as uint8 (height, width, 3), RGB."""
        return np.asarray(self.image.convert("RGB"))


def decode(
    data: bytes,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    box: tuple[int, int, int, int] | None = None,
) -> Picture:
    """Turn the bytes of a picture file into upright RGB pixels of the asked size.

    The content decides, never a file's name. Orientation is applied, transparency lies on white,
    16 bits become 8, an animation shows its first frame. Colour profiles are ignored, as every
    training set of the field was made without them.

    Args:
        data: the whole file.
        size: (height, width) to resize to, whatever the aspect ratio, as the original systems did;
            None keeps the picture's own.
        grey: replace the colours by their luma (ITU-R 601).
        box: left, top, right, bottom of the part to take, in pixels of the upright picture; what
            lies beyond its borders is cut off.

    Raises:
        Rejected: for anything that is not a whole picture of at least `MIN_SIDE` pixels a side and
            at most `MAX_PIXELS` pixels.
        ValueError: for a size that is not positive.
    """
    if size is not None and min(size) < 1:
        raise ValueError(f"size must be (height, width), both at least 1. Received: {size}")
    image = _open(data)
    try:
        if box is None:
            return _picture(image, size, grey)
        return part(_picture(image, None, grey), box, size)
    except Rejected:
        raise
    except Exception as error:  # Damaged files make Pillow raise nearly anything.
        raise _refusal(error) from None


def part(
    whole: Picture, box: tuple[int, int, int, int], size: tuple[int, int] | None = None
) -> Picture:
    """Return a part of a picture that was decoded at its own size; box and size as in `decode`.

    Raises:
        Rejected: when less than `MIN_SIDE` pixels of the box lie on the picture.
    """
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[2], whole.width), min(box[3], whole.height)
    if min(right - left, bottom - top) < MIN_SIDE:
        raise Rejected("bad_box", f"{box} of {whole.width}x{whole.height}, {REASONS['bad_box']}")
    image = whole.image.crop((left, top, right, bottom))
    if size is not None:
        image = image.resize(size[::-1], Image.Resampling.LANCZOS)
    return whole._replace(image=image)


def fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return a picture that is open already, a frame of a video, as `decode` would: uint8
    (height, width, 3), RGB, resized to the size."""
    return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS))


def _picture(image: Image.Image, size: tuple[int, int] | None, grey: bool) -> Picture:
    """Load, turn and resize an opened picture; may raise whatever Pillow raises."""
    mode, stored = image.mode, image.size
    box = _draft(image, size) if size is not None else None
    image.load()
    if box is None:
        stored = image.size  # Pillow has turned a TIFF by now
    orientation = _orientation(image)
    image = _eight_bit_rgb_or_grey(image)
    if size is not None:
        asked = size if orientation >= 5 else size[::-1]  # (width, height) as stored
        if box is not None or image.size != asked:
            image = image.resize(asked, Image.Resampling.LANCZOS, box)
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    width, height = stored[::-1] if orientation >= 5 else stored
    image = image.convert("L") if grey else image
    image.info = {}  # pixels only: a comment or a profile would be saved with them
    return Picture(image, width, height, mode)


def _open(data: bytes) -> Image.Image:
    """Read the header only, and refuse what it tells to be no usable picture."""
    if not data:
        raise Rejected("empty")
    heic = _is_heic(data) and _reads_heic()
    try:
        image = Image.open(BytesIO(data), formats=(*FORMATS, "HEIF") if heic else FORMATS)
    except Exception as error:
        # Of a WebP that ends early Pillow says only that it has no decoder.
        if isinstance(error, UnidentifiedImageError) or data.startswith(b"RIFF"):
            raise Rejected(_sniff(data), "a damaged HEIC picture" if heic else "") from None
        raise _refusal(error) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Rejected("too_many_pixels", f"{width}x{height}, {REASONS['too_many_pixels']}")
    if min(width, height) < MIN_SIDE:
        raise Rejected("too_small", f"{width}x{height}, {REASONS['too_small']}")
    return image


def _is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC


@functools.cache
def _reads_heic() -> bool:
    """Let Pillow read HEIC too, where pillow-heif is installed; it turns the pictures upright."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _sniff(data: bytes) -> str:
    """Return the reason that the first bytes give for what Pillow cannot open."""
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    tag = _TAGS.search(head) if head.startswith(b"<") else None
    if tag:
        return "svg" if tag[1] == b"svg" else "html"
    if data.startswith(b"\x1f\x8b"):
        return "gzip"
    if data[4:8] == b"ftyp":
        if data[8:12] in (b"avif", b"avis"):
            return "damaged" if "AVIF" in FORMATS else "avif"
        if data[8:12].startswith(_FILMS):
            return "film"
        return "heic" if _is_heic(data) else "not_a_picture"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "film"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "truncated" if int.from_bytes(data[4:8], "little") + 8 > len(data) else "damaged"
    for start, kind in _OTHERS.items():
        if data.startswith(start):
            return kind
    for start, end in _ENDS.items():
        if data.startswith(start):
            return "damaged" if data.endswith(end) else "truncated"
    return "not_a_picture"


def _refusal(error: Exception) -> Rejected:
    """Return the refusal for an exception of Pillow's."""
    if isinstance(error, Image.DecompressionBombError):
        return Rejected("too_many_pixels")
    text = " ".join(str(error).split())[:120]
    short = ("truncated", "eof", "unexpected end", "not enough", "incomplete", "buffer")
    if isinstance(error, EOFError) or any(word in text.lower() for word in short):
        return Rejected("truncated")
    return Rejected("damaged", f"{REASONS['damaged']} ({text or type(error).__name__})")


def _draft(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Let the JPEG decoder reduce a much larger picture; never below twice the asked size.

    Returns the part of the reduced picture that is no padding (odd sizes are rounded up), or None
    where the picture will be read in full.
    """
    # The picture may be turned by a quarter afterwards: the shorter side must do for both.
    need = _DRAFT_MARGIN * max(size)
    if image.format not in ("JPEG", "MPO") or min(image.size) < 2 * need:
        return None
    drafted = image.draft(None, (need, need))  # None: CMYK stays CMYK
    return drafted and drafted[1]


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


def _eight_bit_rgb_or_grey(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if mode.startswith(("I", "F")):
        image = _eight_bits(image)
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:
        # Pillow reads 16-bit RGB as 8 bits, but leaves a PNG's clear colour as it is.
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or clear is not None:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, WHITE)
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 and 32-bit greys to 8 bits; Pillow would clip them to white."""
    stored = np.asarray(image)
    if image.mode == "F":  # Floats have no range of their own: darkest to black, lightest to white.
        # Cleaned before the cast, which warns of signalling NaNs.
        values = np.nan_to_num(stored, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
        low, high = values.min(), values.max()
        values = (values - low) * (255 / (high - low) if high > low else 0)
    else:
        # "I" holds 16-bit PNGs too, so only larger values tell of 32 bits.
        values = stored / np.float32(257 if stored.max() <= 65_535 else 2**31 / 256)
    values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if "transparency" in image.info:  # a PNG's one clear grey, in 16 bits
        values[stored == image.info["transparency"]] = WHITE[0]
    return Image.fromarray(values)
