"""timm's embeddings of a folder's pictures: pictures a second, once a line on standard input."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from vision import torchvision  # noqa: F401, timm needs it

import timm  # isort: skip

FOLDER, ARCH, SIZE, BATCH = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 64

torch.set_num_threads(2)
files = sorted(FOLDER.rglob("*.jpg"))


class Pictures(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return len(files)

    def __getitem__(self, i: int) -> torch.Tensor:
        picture = Image.open(files[i]).convert("RGB").resize((SIZE, SIZE), Image.BILINEAR)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def embed() -> None:
    model = timm.create_model(ARCH, pretrained=False, num_classes=0).eval()
    model = model.to(memory_format=torch.channels_last)
    for images in torch.utils.data.DataLoader(Pictures(), BATCH, num_workers=2):
        images = (images.float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            model(images).float().numpy()


for _ in sys.stdin:
    started = time.perf_counter()
    embed()
    print(len(files) / (time.perf_counter() - started), flush=True)
