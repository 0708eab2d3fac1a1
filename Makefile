# Two commands on a fresh machine: `make demo` shows it, `make test` tests it.
# Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := out/demo

.PHONY: help setup demo test check lock clean

help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## install everything into .venv

$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup ## stylize a small collection and show where the results lie
	$(BIN)/python jobs/make_demo_collection.py $(DEMO)/collection
	$(BIN)/python jobs/stylize_dataset.py --config configs/demo.yaml \
		--input $(DEMO)/collection --output $(DEMO)/stylized

test: setup ## run all tests
	$(BIN)/python -m pytest

check: setup ## lint, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

lock: setup ## pin the newest versions that fit pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes \
		--no-annotate --upgrade --quiet --output-file requirements.lock

clean: ## remove the environment and all output
	rm -rf $(VENV) out
