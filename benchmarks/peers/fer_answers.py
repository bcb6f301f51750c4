"""What the `fer` package answers on face pictures: paths on standard input, "path,emotion" out."""

import sys

import cv2
from fer.fer import FER

detector = FER(offsets=(0, 0))  # the pictures are cut to the face already
for line in sys.stdin:
    path = line.rstrip("\n")
    picture = cv2.imread(path)
    height, width = picture.shape[:2]
    found = detector.detect_emotions(picture, [(0, 0, width, height)])
    scores = found[0]["emotions"]
    print(f"{path},{max(scores, key=scores.get)}", flush=True)
