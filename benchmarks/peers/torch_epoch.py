"""PyTorch's epoch from files: seconds of it, once a line on standard input."""

import sys
import time

import numpy as np
import torch
from resnet import training_step
from vision import torchvision

FOLDER, BATCH, PRECISION = sys.argv[1], int(sys.argv[2]), sys.argv[3]
MEAN, SPREAD = torch.tensor(128.0), torch.tensor(64.0)


def tensor(picture) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


step = training_step("7x7", PRECISION)
files = torchvision.datasets.ImageFolder(FOLDER, tensor)
loader = torch.utils.data.DataLoader(
    files, BATCH, shuffle=True, num_workers=2, persistent_workers=True
)

for _ in sys.stdin:
    started = time.perf_counter()
    for images, labels in loader:
        step((images - MEAN) / SPREAD, labels)
    print(time.perf_counter() - started, flush=True)
