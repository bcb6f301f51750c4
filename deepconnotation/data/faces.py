"""Where faces are in a picture: OpenCV's cascade of Haar features (Viola and Jones, CVPR 2001).

The pictures of FER2013 and facial_expressions were cut out by this detector, or as it cuts: on 400
of each its box is, within 3 % (median), the whole picture. So a net that learned from them wants
its boxes as they are, and none that is tighter or wider. Needs the extra [faces].
"""

import functools
import threading

import numpy as np
from PIL import Image

from deepconnotation.console import UserError
from deepconnotation.data.decode import Rejected, fitted

LONGEST = 1000  # pixels of a side; in a larger picture faces are looked for at this size
SMALLEST = 60  # pixels of a face there
NEIGHBOURS = 8  # places around it where a face must be found, too; fewer find more that is none
FILLING = 2 / 3  # of the picture's shorter side: a face as large lacks surroundings, and gets some
BORDER = 1 / 4  # of that side, around the picture
FEW_NEIGHBOURS = 4  # enough where only so large a face counts

Box = tuple[int, int, int, int]
_of_thread = threading.local()  # a cascade keeps what it works on
_loading = threading.Lock()  # OpenCV is among sys.modules before all of it is there


def find(image: Image.Image) -> list[Box]:
    """Return the boxes of the upright, frontal faces, the largest first.

    Args:
        image: of `decode`.

    Returns:
        left, top, right and bottom of each, in pixels of the picture.

    Raises:
        UserError: when OpenCV is not installed.
    """
    factor = min(LONGEST / max(image.size), 1)
    width, height = size = [max(round(side * factor), 1) for side in image.size]
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR))
    boxes = _detect(grey, NEIGHBOURS, SMALLEST)
    large = [box for box in boxes if box[2] - box[0] >= FILLING * min(size)]
    if large or not boxes:  # the picture may be cut to the face already
        boxes = (_filling(grey) or large) + boxes[len(large) :]
    across, down = image.width / width, image.height / height
    return [
        (round(left * across), round(top * down), round(right * across), round(bottom * down))
        for left, top, right, bottom in boxes
    ]


def largest(image: Image.Image) -> Box:
    """Return the box of the largest face, see `find`.

    Raises:
        Rejected: when there is none.
    """
    return _found(image)[0]


def cut(image: Image.Image, size: tuple[int, int]) -> list[tuple[Box, np.ndarray]]:
    """Return box and pixels, uint8 (height, width, 3), of each face, as `find` orders them.

    Raises:
        Rejected: when there is none.
    """
    return [(box, fitted(image.crop(box), size)) for box in _found(image)]


def _filling(grey: np.ndarray) -> list[Box]:
    """Return the boxes of faces that fill the picture, as far as they lie within it."""
    height, width = grey.shape
    shorter = min(height, width)
    border = round(BORDER * shorter)
    boxes = _detect(np.pad(grey, border, "edge"), FEW_NEIGHBOURS, round(FILLING * shorter))
    return [
        (max(left - border, 0), max(top - border, 0),
         min(right - border, width), min(bottom - border, height))
        for left, top, right, bottom in boxes
    ]  # fmt: skip


def _detect(grey: np.ndarray, neighbours: int, smallest: int) -> list[Box]:
    found = _cascade().detectMultiScale(grey, 1.1, neighbours, minSize=(smallest, smallest))
    boxes = sorted((box.tolist() for box in found), key=lambda box: (-box[2], *box))
    return [(x, y, x + w, y + h) for x, y, w, h in boxes]


def _found(image: Image.Image) -> list[Box]:
    boxes = find(image)
    if not boxes:
        raise Rejected("no_face")
    return boxes


def _cascade():
    if not hasattr(_of_thread, "cascade"):
        cv2 = opencv()
        name = f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml"
        _of_thread.cascade = cv2.CascadeClassifier(name)
    return _of_thread.cascade


@functools.cache
def opencv():
    """Return the module that finds faces.

    Raises:
        UserError: when it is not installed.
    """
    try:
        with _loading:
            import cv2
    except ImportError:
        raise UserError("--faces needs OpenCV; pip install deepconnotation[faces]") from None
    cv2.setNumThreads(1)  # a thread looks at a picture each
    return cv2
