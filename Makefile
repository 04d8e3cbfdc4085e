# Both commands work from a clean clone: the virtual environment sets itself up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check lint format setup clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

demo: $(READY)  ## builds a small dataset on Ray, verifies it and says how to look at it
	$(BIN)/python jobs/demo.py --out runs/demo

test: $(READY)  ## every test
	$(BIN)/python -m pytest

check: lint  ## what pre-commit runs too: formatter, linter, types, fast tests
	$(BIN)/python -m pytest -m 'not slow and not ray'

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
