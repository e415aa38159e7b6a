# Every target installs what it needs. On a fresh machine, the first call takes about a minute.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install up test check format bench screenshots sbom lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install every package into .venv, and .venv/bin/horoscope

$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ops/stack/apt.sh python3-venv
	@echo "Installing the Python packages into $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: install ## run everything on this machine: PostgreSQL, RabbitMQ, bot, workers, scheduler, admin; Ctrl-C stops it
	@exec $(BIN)/python -m ops.stack

test: check ## lint, types, import rules and all tests, on a real PostgreSQL and RabbitMQ
	@$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

check: install ## lint, types and import rules
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports >.lint-imports 2>&1 || { cat .lint-imports; rm .lint-imports; exit 1; }; rm .lint-imports

format: install ## format the code
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: install ## measure the service against its budgets and simpler designs
	@$(BIN)/python -m ops.bench $(ARGS)

screenshots: install ## take the pictures of the README from the running service
	@$(BIN)/python -m pytest --quiet tests/acceptance/test_pictures.py --screenshots

sbom: install ## write every package of the lock, with its licence, to sbom.cdx.json (CycloneDX)
	@$(BIN)/python -m ops.sbom sbom.cdx.json

lock: install ## pin every dependency anew (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--upgrade pyproject.toml --output-file requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

clean: ## remove .venv, the local data and all caches
	@rm -rf $(VENV) .local build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
