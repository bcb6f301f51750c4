"""Draws broken and unusual picture files; several tests feed them to the whole path."""

import gzip
import struct
import zipfile
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

#: Colours of the four quarters: top left, top right, bottom left, bottom right.
QUARTERS = np.array([[(200, 40, 40), (40, 170, 60)], [(40, 60, 200), (230, 200, 40)]], np.uint8)


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    """Four rectangles of one colour each."""
    pixels = QUARTERS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    return Image.fromarray(pixels)


def encode(image: Image.Image, form: str, **options) -> bytes:
    """A picture as the bytes of a file."""
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def jpeg(image: Image.Image | None = None, **options) -> bytes:
    """A JPEG without chroma subsampling, so that colours stay what they are."""
    return encode(image or quarters(), "JPEG", quality=95, **{"subsampling": 0, **options})


def oriented(orientation: int, form: str = "JPEG") -> bytes:
    """A picture that looks like `quarters` once its EXIF orientation is applied."""
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    image = quarters() if undo is None else quarters().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(image, exif=exif) if form == "JPEG" else encode(image, form, exif=exif)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, clear: bytes = b"") -> bytes:
    """A PNG of raw rows (each after its filter byte), for kinds that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + (chunk(b"tRNS", clear) if clear else b"")
    parts += chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bomb_png(side: int = 20_000) -> bytes:
    """A PNG of 400 megapixels in a few kilobytes."""
    return png(side, side, 1, 0, bytes((side // 8 + 1) * side))


def png16(pixels: np.ndarray, clear: bool = False) -> bytes:
    """A 16-bit grey or RGB PNG of 8-bit pixels; the last one's colour may be made clear."""
    wide = (pixels.astype(np.uint16) * 256 + 90).astype(">u2")
    height, width = wide.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    return png(width, height, 16, 2 if wide.ndim == 3 else 0, rows,
               wide[-1, -1:].tobytes() if clear else b"")  # fmt: skip


def zipped(data: bytes) -> bytes:
    """Return a zip archive with one file."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("picture.jpg", data)
    return stream.getvalue()


def transparent(mode: str) -> Image.Image:
    """`quarters` with a transparent last quarter whose hidden colour is black."""
    image = quarters().convert(mode)
    pixels = np.array(image)
    pixels[16:, 32:] = 0
    return Image.fromarray(pixels, mode=None)


@cache
def files() -> dict[str, tuple[bytes, str]]:
    """Return name -> (bytes, "ok" or the reason of the refusal)."""
    plain = jpeg()
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    noisy = {form: encode(Image.fromarray(noise), form) for form in ("JPEG", "PNG", "GIF", "WEBP")}
    rgb, luma = np.asarray(quarters()), np.asarray(quarters().convert("L"))
    animation = {"save_all": True, "append_images": [quarters().rotate(180)]}
    palette = quarters().quantize(4)
    last = palette.getpixel((63, 31))
    return {
        "plain.jpg": (plain, "ok"),
        "progressive.jpg": (jpeg(progressive=True), "ok"),
        "grey.jpg": (jpeg(quarters().convert("L")), "ok"),
        "cmyk.jpg": (jpeg(quarters().convert("CMYK")), "ok"),
        "cmyk.tif": (encode(quarters().convert("CMYK"), "TIFF"), "ok"),
        "grey16.png": (png16(luma), "ok"),
        "grey16_clear.png": (png16(luma, clear=True), "ok"),
        "rgb16.png": (png16(rgb), "ok"),
        "rgb16_clear.png": (png16(rgb, clear=True), "ok"),
        "grey16.pgm": (b"P5 64 32 65535\n" + (luma * np.uint16(257)).astype(">u2").tobytes(), "ok"),
        "palette.png": (encode(palette, "PNG"), "ok"),
        "palette_clear.png": (encode(palette, "PNG", transparency=last), "ok"),
        "clear.gif": (encode(palette, "GIF", transparency=last), "ok"),
        "clear.webp": (encode(transparent("RGBA"), "WEBP", lossless=True), "ok"),
        "rgba.png": (encode(transparent("RGBA"), "PNG"), "ok"),
        "grey_alpha.png": (encode(transparent("LA"), "PNG"), "ok"),
        "one_bit.png": (encode(quarters().convert("1"), "PNG"), "ok"),
        "animated.gif": (encode(quarters(), "GIF", **animation), "ok"),
        "animated.png": (encode(quarters(), "PNG", **animation), "ok"),
        "two.mpo": (encode(quarters(), "MPO", quality=95, subsampling=0, **animation), "ok"),
        "animated.webp": (encode(quarters(), "WEBP", lossless=True, **animation), "ok"),
        "picture.bmp": (encode(quarters(), "BMP"), "ok"),
        "float.tif": (encode(quarters().convert("F"), "TIFF"), "ok"),
        "turned.tif": (oriented(6, "TIFF"), "ok"),
        "png_named.jpg": (encode(quarters(), "PNG"), "ok"),
        "no_extension": (plain, "ok"),
        "turned.jpg": (oriented(6), "ok"),
        "mirrored.jpg": (oriented(7), "ok"),
        "junk_behind.jpg": (plain + b"\0" * 500, "ok"),
        "empty.jpg": (b"", "empty"),
        "page.jpg": (b"\n <!DOCTYPE html><html><body>404</body></html>", "html"),
        "xhtml.jpg": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<html><svg/></html>', "html"),
        "packed.jpg": (gzip.compress(plain), "gzip"),
        "drawing.png": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "heic"),
        "film.jpg": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40), "film"),
        "old_film.jpg": (b"RIFF\x40\0\0\0AVI LIST" + bytes(40), "film"),
        "web_film.jpg": (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01" + bytes(40), "film"),
        "zip.jpg": (zipped(plain), "archive"),
        "cut.jpg": (noisy["JPEG"][: len(noisy["JPEG"]) * 6 // 10], "truncated"),
        "cut.png": (noisy["PNG"][: len(noisy["PNG"]) // 2], "truncated"),
        "cut.gif": (noisy["GIF"][: len(noisy["GIF"]) // 2], "truncated"),
        "cut.webp": (noisy["WEBP"][: len(noisy["WEBP"]) // 2], "truncated"),
        "start_only.jpg": (plain[:2], "truncated"),
        "no_frame.jpg": (plain[:20] + plain[-2:], "damaged"),
        "thin.png": (encode(Image.new("RGB", (300, 3)), "PNG"), "too_small"),
        "pixel.gif": (encode(Image.new("RGB", (1, 1)), "GIF"), "too_small"),
        "bomb.png": (bomb_png(), "too_many_pixels"),
        "words.jpg": (b"this is no picture at all, just words", "not_a_picture"),
    }


def write_all(folder: Path) -> dict[str, str]:
    """Write all files into a folder and return name -> "ok" or the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    found = files()
    for name, (data, _) in found.items():
        (folder / name).write_bytes(data)
    return {name: expected for name, (_, expected) in found.items()}
