# Targets for contributors: `make demo` and `make test` do all the set-up themselves.
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

# Tests start hundreds of interpreters; without cached bytecode each would compile the program again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help test setup lint unit labs cluster e2e packages busy soak demo bench documents traces pictures man dist clean
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

test: setup lint unit labs $(if $(CI),packages) ## All checks and tests, against a real control plane; with CI=true the packages' too
setup: ## Install what the tests need besides Python packages, on Debian and Ubuntu
	@PYTHON=$(PYTHON) tools/setup.sh
lint: $(STAMP) ## ruff, mypy --strict, the import contract, links and anchors of the documentation site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
unit: $(STAMP) ## Unit tests, without a cluster
	$(PYTEST) -n auto $(BY_WORKERS) tests/unit tests/golden
labs: $(STAMP) ## cluster, by WORKERS=2 at a time, and beside it e2e, which mostly waits
	$(PYTEST) -n $(shell expr $(WORKERS) + 1) $(BY_WORKERS) tests/cluster tests/e2e $(PACKAGES:%=--ignore=%)
cluster: $(STAMP) ## Tests against real API servers, one for each of WORKERS=2 at a time
	$(PYTEST) -n $(WORKERS) $(BY_WORKERS) tests/cluster
e2e: $(STAMP) ## Tests against the whole lab
	$(PYTEST) tests/e2e $(PACKAGES:%=--ignore=%)
packages: $(STAMP) ## Tests of the release: archives, pip, krew and workflows
	$(PYTEST) $(PACKAGES)
busy: $(STAMP) ## Run unit and labs three times, with a busy loop on each core and modules in random order
	for run in 1 2 3; do YOSHI_MODULE_ORDER=$$run $(BIN)/python -m tests.busy $(MAKE) unit labs || exit 1; done
soak: $(STAMP) ## Repeat faults, kills and races many times: hours
	$(SOAK) $(PYTEST) --timeout=0 tests/unit/plan/test_faults.py $(SOAKED:%=tests/cluster/test_%.py)
demo: $(STAMP) ## Demonstrate the main commands on a new control plane
	$(BIN)/python -m lab demo
bench: $(STAMP) ## Run the benchmarks, with those of other programs
	$(BIN)/python -m tests.bench
documents: $(STAMP) ## Generate docs/rules, and commands.md, output.md and api.md in docs/reference
	$(BIN)/python -m tools.documents
traces: $(STAMP) ## Record requests and output of command lines in tests/golden/traces
	$(BIN)/python -m tests.golden record
pictures: $(STAMP) ## Generate docs/pictures from real runs on a lab
	$(BIN)/python -m tools.documents.pictures
man: $(STAMP) ## Generate man pages in build/man
	$(BIN)/python -m tools.documents --man build/man
dist: $(STAMP) ## Build an archive for this machine that needs no Python, in dist
	$(BIN)/python -m release archive
clean: ## Remove the virtual environment and build output
	rm -rf $(VENV) build dist *.egg-info
