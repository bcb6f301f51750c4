"""PyTorch's training step of a ResNet-18: pictures a second, once a line on standard input."""

import sys
import time

import torch
from vision import torchvision

STEM, SIZE, BATCH, PICTURES, PRECISION = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
STEPS = round(PICTURES / BATCH)

torch.set_num_threads(2)
torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=8)
if STEM == "3x3":
    model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = torch.nn.Identity()
model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, nesterov=True)
images = torch.rand(BATCH, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
labels = torch.randint(0, 8, (BATCH,))


def step() -> None:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bfloat16"):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    loss.item()


for _ in sys.stdin:
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    print(BATCH * STEPS / (time.perf_counter() - started), flush=True)
