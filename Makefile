# Everything a contributor does, by name. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: help install demo test security matrix faults kills torture fuzz check fmt bench sweep profile publish clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## set up .venv with everything pinned

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Syncer needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install ## sync three repositories between two real registries, twice, and show the report
	@$(BIN)/syncer demo --spec config.example.yaml

test: install ## run every test, with the coverage gate
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term $(ARGS)

faults: install ## let every fault happen at every step of a sync, and print what comes of each (ARGS=429 for some)
	$(BIN)/python -m tests.faults $(ARGS)

torture: install ## run what takes too long for every day: kill loops, random faults at scale, many more examples
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'torture or searched' $(ARGS)

fuzz: install ## look for inputs that are not survived, at random (ARGS='specs --seconds 60' for one family)
	$(BIN)/python -m tests.fuzz $(or $(ARGS),all)

security: install ## mount every attack of docs/security.md, with and without its defence, and print the table
	$(BIN)/python -m tests.security

matrix: install ## sync from and to an imitation of each registry, and print the requests beside their budgets
	$(BIN)/python -m tests.support.personalities

kills: install ## kill runs, copies, the server and migrations at every step, go on, and print what was sent twice
	$(BIN)/python -m tests.kills $(ARGS)

check: install ## lint, types, layering; changes no file
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py tests/test_public_api.py

fmt: install ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## measure against skopeo on the same servers (ARGS=--quick for minutes instead of an hour)
	$(BIN)/python -m benchmarks $(ARGS)

sweep: install ## measure windows that find their size beside fixed ones (ARGS='--rounds 1 --scale 0.1' for a look)
	$(BIN)/python -m benchmarks sweep $(ARGS)

profile: install ## show where the time of a first sync and of a large layer goes
	@test -x .cache/profile/bin/py-spy || { $(PYTHON) -m venv .cache/profile && .cache/profile/bin/python -m pip install --quiet --disable-pip-version-check 'py-spy>=0.4'; } || echo "no py-spy: cProfile instead" >&2
	$(BIN)/python -m benchmarks profile $(ARGS)

publish: install ## write docs/performance.md and its charts of what was measured here at full scale (FILES=... for some)
	$(BIN)/python -m benchmarks publish $(or $(FILES),--whole $(sort $(wildcard benchmarks/results/2*.json))) $(ARGS)

clean: ## remove what was built or installed
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache dist build htmlcov .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
