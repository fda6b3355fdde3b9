# Everything a contributor needs: `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# The slowest tests are printed, and build/junit-<target>.xml has the seconds of all.
PYTEST = $(BIN)/pytest --durations=25 --durations-min=1 --junitxml=build/junit-$@.xml
# Each worker has a control plane of its own; tests/scheduling.py says which tests it takes.
WORKERS ?= 2
BY_WORKERS = --dist loadscope --no-loadscope-reorder
# Every fault for every command, each command killed before every write and without each permission, and many more random
# courses than `make cluster` takes time for.
SOAK = YOSHI_FAULT_COURSES=5000 YOSHI_FAULT_SEEDS=6000 YOSHI_CUT_OFFS=1000 YOSHI_FAULT_INSTALL_COURSES=54 YOSHI_KILLS=1000 \
  YOSHI_KILL_THEN=4 YOSHI_PERMISSIONS=all YOSHI_VERSION_ROUNDS=100 YOSHI_RACE_ROUNDS=50
SOAKED = faults faults_installing permissions kill_matrix calico_kill_matrix two_versions concurrency

PACKAGES = $(patsubst %,tests/e2e/test_%.py,archive installing krew workflows)

.PHONY: help test setup lint unit labs cluster e2e packages soak demo bench documents traces pictures man dist clean
help: ## What there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

test: setup lint unit labs $(if $(CI),packages) ## All checks and tests, against a real control plane; with CI=true the packages' too
setup: ## What the tests need besides Python's packages, on Debian and Ubuntu
	@PYTHON=$(PYTHON) tools/setup.sh
lint: $(STAMP) ## ruff, mypy --strict, the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
unit: $(STAMP) ## Pure tests, no cluster
	$(PYTEST) -n auto $(BY_WORKERS) tests/unit tests/golden
labs: $(STAMP) ## cluster, by WORKERS=2 at a time, and beside it e2e, which mostly waits
	$(PYTEST) -n $(shell expr $(WORKERS) + 1) $(BY_WORKERS) tests/cluster tests/e2e $(PACKAGES:%=--ignore=%)
cluster: $(STAMP) ## Tests against real API servers, one for each of WORKERS=2 at a time
	$(PYTEST) -n $(WORKERS) $(BY_WORKERS) tests/cluster
e2e: $(STAMP) ## Tests against the whole lab
	$(PYTEST) tests/e2e $(PACKAGES:%=--ignore=%)
packages: $(STAMP) ## Tests of what a release is made of: archives, pip and krew, workflows
	$(PYTEST) $(PACKAGES)
soak: $(STAMP) ## What is tried at random or by turns, many times over: hours
	$(SOAK) $(PYTEST) --timeout=0 tests/unit/plan/test_faults.py $(SOAKED:%=tests/cluster/test_%.py)
demo: $(STAMP) ## The main job, on a real control plane that it starts itself
	$(BIN)/python -m lab demo
bench: $(STAMP) ## Measures, beside the peers
	$(BIN)/python -m tests.bench
documents: $(STAMP) ## docs/commands.md, from the program
	$(BIN)/python -m tools.documents
traces: $(STAMP) ## tests/golden/traces: what command lines send and print
	$(BIN)/python -m tests.golden record
pictures: $(STAMP) ## docs/pictures, from real runs on a lab
	$(BIN)/python -m tools.documents.pictures
man: $(STAMP) ## Man pages, into build/man
	$(BIN)/python -m tools.documents --man build/man
dist: $(STAMP) ## An archive for this machine that needs no Python, in dist
	$(BIN)/python -m release archive
clean: ## Remove the virtual environment and build output
	rm -rf $(VENV) build dist *.egg-info
