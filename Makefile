# The verbs of this project. `make demo` and `make test` need Python 3.11, git and nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
export UV_COMPILE_BYTECODE := 1

COMPOSED := PYTHONPATH=plugins $(PYTHON) -m evergreen.composed

.PHONY: help demo test check up roll status logs down demo-compose test-containers test-load lock
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: .venv/installed  ## the main job on this machine, from first models to a rollback (ARGS=--ask: you are on call)
	@$(BIN)/evergreen demo $(ARGS)

test: .venv/installed-dev check  ## every test that needs no Docker, Postgres or browser
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --ignore tests/compose --ignore tests/load $(ARGS)

check: .venv/installed-dev  ## lint, types, import rule, model specs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/evergreen check

up:  ## the whole stack in containers on this host: build, start what does not run, wait (needs Docker)
	@$(COMPOSED) up

roll:  ## serving goes over to a new image, no request lost (ARGS=--no-build: to the image as it is)
	@$(COMPOSED) roll $(ARGS)

status:  ## the stack in containers: health, restarts, memory, addresses
	@$(COMPOSED) status

logs:  ## its logs (ARGS="scheduler --tail 50")
	@$(COMPOSED) logs $(ARGS)

down:  ## stop what runs here, in containers or not (ARGS=--volumes: and remove the containers' data)
	@if [ -x $(BIN)/evergreen ]; then $(BIN)/evergreen down; fi
	@if command -v docker >/dev/null; then $(COMPOSED) down $(ARGS); fi

demo-compose:  ## the demo's story against the running stack (ARGS=--ask: you are on call)
	@$(COMPOSED) demo $(ARGS)

test-containers: .venv/installed-dev  ## every test that needs Docker, Postgres or a browser
	$(BIN)/python -m pytest tests/compose $(ARGS)

# Two at a time: they wait as much as they work. pytest ends with 5 where ARGS chose none of the tests.
test-load: .venv/installed-dev  ## load, kills, full disks, sign-in, real clients (needs promtool)
	$(BIN)/python -m pytest tests/load -m "not alone" -n 2 --dist loadscope --no-loadscope-reorder $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
	$(BIN)/python -m pytest tests/load -m alone $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

# Of the images' locks, requirements.txt holds the versions. xgboost-cpu is xgboost without what only a GPU needs.
LOCK = $(BIN)/uv pip compile -q --generate-hashes --no-header --python-version 3.11
IMAGE_LOCK = $(LOCK) --python-platform linux --no-annotate
lock: .venv/uv  ## write all requirements*.txt anew
	$(LOCK) --universal requirements.in -o requirements.txt
	$(LOCK) --universal requirements-dev.in -o requirements-dev.txt
	sed 's/^xgboost==/xgboost-cpu==/' requirements.in | $(IMAGE_LOCK) -c requirements.txt - -o requirements-airflow.txt
	$(IMAGE_LOCK) requirements-serving.in -o requirements-serving.txt
	$(IMAGE_LOCK) requirements-mlflow.in -o requirements-mlflow.txt

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
