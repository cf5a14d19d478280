# Every target makes .venv by itself when it is missing. PYTHON=python3.13 make test  picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-fastapi test-django test-postgres fuzz check bench bench-fastapi bench-django bench-server bench-storage fix constraints clean

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
	@$(BIN)/python -m pytest -n 2

# FastAPI's insides are used, so its previous minor release is kept working too. Raise it with the pinned one.
FASTAPI_PREVIOUS := 0.164.*
FASTAPI_OLD := $(VENV)/fastapi-previous

test-fastapi: $(STAMP) ## Run FastAPI's part of the suite on FastAPI's previous minor release
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(FASTAPI_OLD) 'fastapi==$(FASTAPI_PREVIOUS)'
	@PYTHONPATH=$(FASTAPI_OLD) $(BIN)/python -c 'import fastapi; print("FastAPI", fastapi.__version__)'
	@PYTHONPATH=$(FASTAPI_OLD) $(BIN)/python -m pytest -n 2 tests/fastapi

# Django's newest releases need a newer Python: taken where there is one, under its own name or beside python3.
PYTHON_NEXT ?= $(shell python3.13 -c 'import sys; print(sys.executable)' 2>/dev/null \
	|| ls -d "$$($(PYTHON) -c 'import sys; print(sys.base_prefix)')"/../3.13.*/bin/python3 2>/dev/null | tail -1)
DJANGO_NEXT := 6.1.*
NEXT := $(VENV)-next

test-django: ## Run Django's part of the suite on the newest Django, where a Python 3.13 is found
ifeq ($(strip $(PYTHON_NEXT)),)
	@echo "skipped: no Python 3.13 was found for Django $(DJANGO_NEXT); name one with PYTHON_NEXT="
else
	@$(PYTHON_NEXT) -m venv $(NEXT)
	@grep -viE '^(django|asgiref)==' constraints.txt > $(NEXT)/constraints.txt
	@$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check -c $(NEXT)/constraints.txt pip
	@$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check -c $(NEXT)/constraints.txt \
	  --build-constraint constraints.txt -e '.[django,server,fastapi,reload,fast]' --group dev 'django==$(DJANGO_NEXT)'
	@$(NEXT)/bin/python -c 'import django, sys; print("Django", django.__version__, "on Python", sys.version.split()[0])'
	@$(NEXT)/bin/python -m pytest -n 2 tests/django tests/example_django
endif

test-postgres: $(STAMP) ## Run the server's part of the suite with its jobs in PostgreSQL instead of SQLite
	@SPOOLED_TEST_STORAGE=postgresql $(BIN)/python -m pytest -n 2 tests/server

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

constraints: ## Resolve the newest versions again and pin them in constraints.txt
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all]' --group dev
	{ echo "# Versions that are tested together. Names and versions only; written by: make constraints"; \
	  $(BIN)/python -m pip freeze --all --exclude-editable --exclude setuptools; } > constraints.txt
	touch $(STAMP)

clean: ## Remove .venv and everything that can be made again
	rm -rf $(VENV) $(NEXT) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
