"""PyTorch's ResNet-18 and its training step, channels-last."""

from collections.abc import Callable

import torch
from vision import torchvision


def training_step(stem: str, precision: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Return a function that trains on a batch: float32 (n, 3, H, W) and int64 (n,)."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=8)
    if stem == "3x3":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = torch.nn.Identity()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, nesterov=True)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        images = images.to(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return step
