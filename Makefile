# On a fresh machine `make demo` shows what it does and `make test` tests it.
# Python 3.11 or newer and make are needed; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
S3_VENV := .venv-s3
DEMO := out/demo

.PHONY: help setup demo test test-slow check docs lock clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## install everything into .venv

$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup ## stylize a small collection and print where the results lie
	$(BIN)/python jobs/make_demo_collection.py $(DEMO)/collection
	$(BIN)/nst-ops stylize --config configs/demo.yaml \
		--input $(DEMO)/collection --output $(DEMO)/stylized

# The S3 server of the tests needs packages that clash with those of nst-ops, so it has an environment of its own.
# Where it cannot be installed, the tests that need it are skipped and say so.
$(S3_VENV)/.ready: tests/s3_server.lock | setup
	@rm -rf $(S3_VENV)
	@$(BIN)/uv venv --quiet --python $(BIN)/python $(S3_VENV) \
		&& $(BIN)/uv pip install --quiet --python $(S3_VENV)/bin/python --require-hashes -r $< \
		&& touch $@ || echo "no S3 server for the tests: those that need one are skipped"

test: setup $(S3_VENV)/.ready ## run the tests that are not slow, in two processes
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadgroup

# Slow tests have the machine to themselves: they kill processes and wait for whole clusters. Property tests run
# again, with many random examples in place of a few fixed ones.
test-slow: setup $(S3_VENV)/.ready ## run the slow tests, and property tests with many examples
	$(BIN)/python -m pytest -m "slow or hypothesis" --hypothesis-profile thorough

check: setup ## check style, types, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup ## write docs/configuration.md and docs/architecture.png anew
	$(BIN)/python docs/generate_configuration.py
	$(BIN)/python docs/generate_architecture.py

lock: setup ## pin the newest versions that fit pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes \
		--no-annotate --upgrade --quiet --output-file requirements.lock
	$(BIN)/uv pip compile tests/s3_server.in --universal --python-version 3.11 --generate-hashes \
		--no-annotate --upgrade --quiet --output-file tests/s3_server.lock

clean: ## remove the environment and all output
	rm -rf $(VENV) $(S3_VENV) out
