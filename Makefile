# Every target works from a clean clone: the virtual environment sets itself up.
#
#   make demo               a small dataset on Ray, verified
#   make demo PIP_FLAGS=... the same, with flags for pip: those that PyTorch's installation page names for CPU-only
#                           wheels make the download a tenth
#   make test               every test
#   make docs               the documentation as a site, build/site/index.html
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check lint format setup constraints configuration docs clean

setup: $(READY)

# The .pth file lets `python benchmarks/NAME.py` find what the benchmarks share: they are not part of what is installed.
$(READY): pyproject.toml constraints.txt
	@date +%s > .setup-started
	@echo "[1/3] virtual environment in $(VENV), by $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[2/3] libraries as in constraints.txt, and this project as editable: minutes"
	@$(PIP) install --constraint constraints.txt $(PIP_FLAGS) --editable '.[dev]'
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/regionpairs-checkout.pth"
	@echo "[3/3] ready in $$(( $$(date +%s) - $$(cat .setup-started) )) s: $(BIN)/regionpairs --help"
	@rm -f .setup-started
	@touch $(READY)

demo: $(READY)  ## builds a small dataset on Ray, verifies it and says how to look at it
	@$(BIN)/python jobs/demo.py --out runs/demo

test: $(READY)  ## every test, in a process a CPU
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

check: lint  ## what pre-commit runs too: formatter, linter, types, fast tests
	$(BIN)/python -m pytest -m 'not slow and not ray'

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: $(READY)  ## pins the versions of this environment
	@$(BIN)/python .ci/constraints.py

configuration: $(READY)  ## the page of all settings, from the settings classes
	@$(BIN)/python .ci/configuration.py

docs: configuration  ## the documentation as a site; a broken link ends it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

clean:
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .setup-started
