# `make quickstart` trains a detector in minutes, `make test` tests; both set up their own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
QUICKSTART ?= runs/quickstart

.PHONY: help setup quickstart test test-slow lint bench clean

help:
	@echo "make quickstart  train, evaluate and draw on a generated data set (8 minutes on 2 cores)"
	@echo "make test        run the tests;  make test-slow  the long ones too"
	@echo "make lint        check style;    make bench      time the loss against a loop over positives"

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

lint: setup
	$(BIN)/ruff check .

bench: setup
	$(BIN)/python scripts/benchmarks/loss.py --complete

clean:
	rm -rf $(VENV) build dist *.egg-info
