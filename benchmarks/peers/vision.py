"""torchvision, where PyPI's build of it does not fit PyTorch's.

PyPI's torchvision is built for PyTorch with CUDA. Beside the build for processors its compiled
operators do not load, and importing it fails for want of two that no benchmark uses.
"""

from importlib.metadata import version

import torch

if torch.version.cuda is None and "+cpu" not in version("torchvision"):
    missing = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402

__all__ = ["torchvision"]
