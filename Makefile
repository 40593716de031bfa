# `make quickstart` trains a detector in minutes, `make test` tests; both set up their own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
QUICKSTART ?= runs/quickstart

# Where `make test-gpu` runs: "fake" libraries play CUDA on the CPU, "real" are the GPUs of this machine.
GPUS ?= fake
# An environment for each: real CUDA packages would be loaded before the fakes.
VENV_GPU ?= .venv-gpu-$(GPUS)

.PHONY: help setup quickstart test test-slow test-gpu lint bench clean

help:
	@echo "make quickstart  train, evaluate and draw on a generated data set (17 minutes on 2 busy cores)"
	@echo "make test        run the tests;  make test-slow  the long ones too"
	@echo "make test-gpu    MXNet's GPU build on two fake GPUs; GPUS=real: on this machine's"
	@echo "make lint        check style and types;   make bench      time the loss against a loop over positives"

setup: $(VENV)/.installed

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[cpu,dev]'
	@touch $@

quickstart: setup
	$(BIN)/python -m aploss_mx.data.shapes --output datasets/shapes
	$(BIN)/python scripts/train_voc.py --recipe quickstart --dataset-root datasets/shapes \
		--save-prefix $(QUICKSTART) --resume auto
	$(BIN)/python scripts/demo.py --params $(QUICKSTART)/last.npz --output $(QUICKSTART)/pictures \
		--input 'datasets/shapes/VOC2007/JPEGImages/val_00000?.jpg' --sheet $(QUICKSTART)/detections.png

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup
	OMP_NUM_THREADS=$$(nproc) $(BIN)/python -m pytest -m 'slow or not slow'

test-gpu: $(VENV_GPU)/.installed-$(GPUS)
	tests/gpu/run.sh $(VENV_GPU)/bin/python $(GPUS)

$(VENV_GPU)/.installed-fake: setup.py
	$(PYTHON) -m venv $(VENV_GPU)
	$(VENV_GPU)/bin/python -m pip install --quiet --upgrade pip
	$(VENV_GPU)/bin/python -m pip install --quiet -e '.[gpu-test]'
	@touch $@

$(VENV_GPU)/.installed-real: $(VENV_GPU)/.installed-fake
	$(VENV_GPU)/bin/python -m pip install --quiet -e '.[gpu]'
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python scripts/benchmarks/loss.py --complete

clean:
	rm -rf $(VENV) $(VENV_GPU) .venv-gpu* build dist *.egg-info
