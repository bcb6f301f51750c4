"""PyTorch's epoch from files: seconds of it, once a line on standard input."""

import sys
import time

import numpy as np
import torch
from vision import torchvision

FOLDER, BATCH, PRECISION = sys.argv[1], int(sys.argv[2]), sys.argv[3]
MEAN, SPREAD = torch.tensor(128.0), torch.tensor(64.0)

torch.set_num_threads(2)
torch.manual_seed(0)


def tensor(picture) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


files = torchvision.datasets.ImageFolder(FOLDER, tensor)
loader = torch.utils.data.DataLoader(
    files, BATCH, shuffle=True, num_workers=2, persistent_workers=True
)
model = torchvision.models.resnet18(num_classes=8).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, nesterov=True)


def epoch() -> None:
    for images, labels in loader:
        images = ((images - MEAN) / SPREAD).to(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()


for _ in sys.stdin:
    started = time.perf_counter()
    epoch()
    print(time.perf_counter() - started, flush=True)
