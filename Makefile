# The verbs of this project. `make demo` and `make test` need Python 3.11, git and nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
export UV_COMPILE_BYTECODE := 1

.PHONY: help demo test check down lock
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

demo: .venv/installed  ## the main job on this machine, from first models to a rollback (ARGS=--ask: you are on call)
	@$(BIN)/evergreen demo $(ARGS)

test: .venv/installed-dev check  ## every test that needs no Docker, Postgres or browser
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

check: .venv/installed-dev  ## lint, types, import rule, model specs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/evergreen check

down:  ## stop what runs here
	@if [ -x $(BIN)/evergreen ]; then $(BIN)/evergreen down; fi

lock: .venv/uv  ## write requirements.txt and requirements-dev.txt anew
	$(BIN)/uv pip compile -q --generate-hashes --no-header --universal --python-version 3.11 requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-header --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

.venv/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Evergreen needs Python 3.11; found '$(PYTHON)'. Install it, or say where it is: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Making .venv ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv==$(UV_VERSION)
	@touch $@

.venv/installed: .venv/uv requirements.txt excludes.txt pyproject.toml
	@echo "Installing the locked requirements (about 30 s on a fast network) ..."
	$(BIN)/uv pip install -q --require-hashes --excludes excludes.txt -r requirements.txt
	$(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/uv pip install -q --require-hashes --excludes excludes.txt -r requirements-dev.txt
	@touch $@
