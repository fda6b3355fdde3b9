# Everything a contributor needs: `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# The slowest tests are printed, and build/junit-<target>.xml has the seconds of all.
PYTEST = $(BIN)/pytest --durations=25 --durations-min=1 --junitxml=build/junit-$@.xml
# Each worker has a control plane of its own, and takes the modules in the order of tests/cluster/conftest.py.
WORKERS ?= 2
# Every fault for every command, each command killed before every write, and many more random courses than `make cluster`
# takes time for.
SOAK = YOSHI_FAULT_COURSES=5000 YOSHI_FAULT_SEEDS=6000 YOSHI_CUT_OFFS=1000 YOSHI_FAULT_INSTALL_COURSES=54 YOSHI_KILLS=1000 \
  YOSHI_VERSION_ROUNDS=100 YOSHI_RACE_ROUNDS=50

PACKAGES = $(patsubst %,tests/e2e/test_%.py,archive installing krew workflows)

.PHONY: help test setup lint unit cluster e2e packages soak demo bench documents traces pictures man dist clean
help: ## What there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

test: setup lint unit cluster e2e $(if $(CI),packages) ## All checks and tests, against a real control plane; with CI=true the packages' too
setup: ## What the tests need besides Python's packages, on Debian and Ubuntu
	@PYTHON=$(PYTHON) tools/setup.sh
lint: $(STAMP) ## ruff, mypy --strict, the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
unit: $(STAMP) ## Pure tests, no cluster
	$(PYTEST) -n auto --dist loadscope tests/unit tests/golden
cluster: $(STAMP) ## Tests against real API servers, one for each of WORKERS=2 at a time
	$(PYTEST) -n $(WORKERS) --dist loadscope --no-loadscope-reorder tests/cluster
e2e: $(STAMP) ## Tests against the whole lab
	$(PYTEST) tests/e2e $(PACKAGES:%=--ignore=%)
packages: $(STAMP) ## Tests of what a release is made of: archives, pip and krew, workflows
	$(PYTEST) $(PACKAGES)
soak: $(STAMP) ## What is tried at random or by turns, many times over: hours
	$(SOAK) $(PYTEST) --timeout=0 tests/unit/plan/test_faults.py \
	  $(patsubst %,tests/cluster/test_%.py,faults faults_installing kill_matrix two_versions concurrency)
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
