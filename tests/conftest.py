"""What several tests share: the real data, a small prepared data set, a trained run."""

import gc
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepconnotation.data import manifest, prepare
from deepconnotation.data.sources import toy
from deepconnotation.emotions import FI

ROOT = Path(__file__).resolve().parents[1]

# Graphs are made of many small objects that live on; looking through them all the time took a
# twentieth of the suite.
gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; a test that needs it is skipped where there is none."""
    folder = Path(os.environ.get("DEEPCONNOTATION_DATA", ROOT / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set DEEPCONNOTATION_DATA")
    return folder


@pytest.fixture(autouse=True)
def float32_policy():
    """What a test trains in bfloat16, where the processor has it, leaves no trace in the next."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].mixed_precision.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def toy_source(tmp_path_factory):
    """Ten drawn pictures a class."""
    return toy.read(tmp_path_factory.mktemp("drawn"), per_class=10)


@pytest.fixture(scope="session")
def toy_data(toy_source, tmp_path_factory) -> Path:
    """A prepared data set of them, 16 pixels; never to be changed by a test."""
    out = tmp_path_factory.mktemp("toy") / "data"
    prepare.prepare(toy_source, out, 16, fractions="60/20/20", workers=1)
    return out


@pytest.fixture
def elsewhere(toy_data, tmp_path) -> Path:
    """The same pictures as a data set of another name, with the licence CC0."""
    data = shutil.copytree(toy_data, tmp_path / "elsewhere")
    info = replace(manifest.read_info(data), name="elsewhere", licence="CC0")
    manifest.write(data, manifest.to_csv(manifest.read(data)), info)
    return data


@pytest.fixture(scope="session")
def toy_run(toy_data, tmp_path_factory):
    """A run trained on it for four epochs, evaluated and reported; its answers differ from picture
    to picture."""
    from deepconnotation import run, train
    from deepconnotation.settings import Settings

    folder = tmp_path_factory.mktemp("runs") / "toy"
    settings = Settings(epochs=4, batch=16, optimizer="adam", rate=3e-3, precision="float32")
    assert train.start("small_cnn", toy_data, folder, settings) == 0
    return run.load(folder)


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory):
    """1,600 drawn pictures, few kinds repeated with noise so that drawing is quick."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for emotion in FI.classes:
        (root / emotion).mkdir()
        base = [toy.draw(emotion, i, 64) for i in range(10)]
        for i in range(200):
            pixels = base[i % 10] ^ rng.integers(0, 128, base[0].shape, np.uint8)
            Image.fromarray(pixels).save(root / emotion / f"{emotion}_{i:03}.png")
    return root
