"""PyTorch's training step of a ResNet-18: pictures a second, once a line on standard input."""

import sys
import time

import torch
from resnet import training_step

STEM, SIZE, BATCH, PICTURES, PRECISION = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
STEPS = round(PICTURES / BATCH)

step = training_step(STEM, PRECISION)
images = torch.rand(BATCH, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
labels = torch.randint(0, 8, (BATCH,))

for _ in sys.stdin:
    started = time.perf_counter()
    for _ in range(STEPS):
        step(images, labels)
    print(BATCH * STEPS / (time.perf_counter() - started), flush=True)
