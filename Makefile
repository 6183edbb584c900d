# Each target creates what it needs. Python 3.11 or newer and make are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run demo test test-all bench check clean

run: $(VENV)/.base
	$(BIN)/sinusnode run

demo: $(VENV)/.base
	$(BIN)/sinusnode demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n auto

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/bench.py
	$(BIN)/python tests/bench/training_speed.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo-results

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

# PyTorch first and by itself: a CPU build that is already there or offered is then kept.
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.base
