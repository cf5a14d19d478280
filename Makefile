# Every target makes .venv by itself when it is missing. `make test PYTHON=python3.13 VENV=.venv-3.13` takes another
# interpreter; `make clean` before it where .venv is to be made with that one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Hundreds of tests start processes, each of which would compile this project anew.
unexport PYTHONDONTWRITEBYTECODE
# More than there are cores: most tests wait for something.
SUITE = $(BIN)/python scripts/run_suite.py -n 4

.DEFAULT_GOAL := help
.PHONY: help demo test test-fastapi test-pythons test-postgres test-readme fuzz check bench bench-fastapi bench-django bench-server bench-storage fix constraints wheel clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(STAMP): pyproject.toml constraints.txt
	@echo "Making $(VENV) (once; needs the network for Python packages)..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --build-constraint constraints.txt -e '.[all]' --group dev
	@touch $(STAMP)

demo: $(STAMP) ## Watch a thousand real jobs run against the embedded server
	@$(BIN)/spooled demo

test: $(STAMP) ## Run the whole test suite
	@$(SUITE)

# FastAPI's insides are used, so its previous minor release is kept working too. Raise it with the pinned one.
FASTAPI_PREVIOUS := 0.164.*
FASTAPI_OLD := $(VENV)/fastapi-previous

test-fastapi: $(STAMP) ## Run FastAPI's part of the suite on FastAPI's previous minor release
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(FASTAPI_OLD) 'fastapi==$(FASTAPI_PREVIOUS)'
	@PYTHONPATH=$(FASTAPI_OLD) $(BIN)/python -c 'import fastapi; print("FastAPI", fastapi.__version__)'
	@PYTHONPATH=$(FASTAPI_OLD) $(SUITE) tests/fastapi

test-pythons: ## Run the whole suite on the oldest and on the newest Python that this machine has
	@pythons=$$($(PYTHON) scripts/find_pythons.py --ends) && echo "$$pythons" | while read -r version python; do \
	  echo "The suite on Python $$version ($$python)"; \
	  $(MAKE) --no-print-directory test PYTHON="$$python" VENV=.venv-$$version </dev/null || exit 1; \
	done

test-postgres: $(STAMP) ## Run the server's part of the suite with its jobs in PostgreSQL instead of SQLite
	@SPOOLED_TEST_STORAGE=postgresql $(SUITE) tests/server

test-readme: $(STAMP) ## Run each block of the README as pasted, in empty virtual environments (needs the package index)
	@SPOOLED_TEST_INSTALLS=1 $(SUITE) tests/readme

fuzz: $(STAMP) ## Let Schemathesis loose on the server for ten minutes (FUZZ="--seconds 60 --seed 1")
	@$(BIN)/python -m tests.server.fuzzing $(FUZZ)

check: $(STAMP) ## Lint, format, types, and the generated sync client
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/generate_sync.py --check
	$(BIN)/mypy

bench: $(STAMP) ## Measure the workers beside their peers (BENCH="--quick": under a minute)
	@$(BIN)/python -m benchmarks $(BENCH)

bench-fastapi: $(STAMP) ## Measure an application's requests while its in-app worker is busy
	@$(BIN)/python -m benchmarks.app_latency $(BENCH)

bench-storage: $(STAMP) ## Measure the embedded server on SQLite, and on PostgreSQL with one and two servers
	@$(BIN)/python -m benchmarks.server_storage $(BENCH)

bench-django: $(STAMP) ## Measure what the Django adapter costs
	@$(BIN)/python -m benchmarks.django_worker $(BENCH)

bench-server: $(STAMP) ## Load the server with 2,000 requests a second for a minute (BENCH="--quick")
	@$(BIN)/python -m benchmarks.server_load $(BENCH)

fix: $(STAMP) ## Apply what ruff can repair and regenerate the sync client
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/generate_sync.py

constraints: ## Resolve the newest versions again, for each Python that is found, and pin them in constraints.txt
	@$(PYTHON) scripts/pin_versions.py

wheel: ## Build the package, which the README's install lines take, into dist/
	@$(PYTHON) -m venv .venv-wheel
	@rm -f dist/spooled_contrib-*.whl
	@.venv-wheel/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/spooled_contrib-*.whl

clean: ## Remove .venv and everything that can be made again
	rm -rf .venv* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
