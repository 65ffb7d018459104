# Each target sets up .venv by itself; nothing but Python 3.11 or later and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Where nothing is kept compiled, each process compiles all that it imports, and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint compiled docs man pictures captures browser bench soak soak-sockets soak-limits soak-runs clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# On all cores; the tests of one file share what they set up, and so a process.
test: $(STAMP)
	$(MAKE) --jobs=3 lint compiled browser
	$(BIN)/pytest -n auto --dist loadfile

# For whoever is at work: within a minute, all but what is slow.
check: lint
	$(BIN)/pytest -n auto --dist loadfile -q -m "not slow"

# Scenarios with every fault, on all cores; each is played again by the line that is printed if it breaks a rule.
SEEDS ?= 1000
FIRST ?= 0
soak: $(STAMP)
	$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS)

# Real sockets, a network that breaks and a cloud that errs, for so long with each transport.
SECONDS ?= 120
soak-sockets: $(STAMP)
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

# Four processes at a real limit a minute, of which one stands still, and a store that loses all: some five minutes.
soak-limits: $(STAMP)
	$(BIN)/python -m tests.limits.shared.failures

# Workers of durable runs that die at every point: fifty seeds on both stores, 6,000 servers each, and in Temporal; hours.
soak-runs: $(STAMP)
	$(BIN)/python -m tests.runs.failures
	$(BIN)/python -m tests.temporal.soak --seeds 50

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All tests, once and before the processes of pytest-xdist each do so. What is wrong with one, pytest says when it runs.
compiled: $(STAMP)
	-@$(BIN)/pytest --collect-only -qq > /dev/null

# The pages in site/, as `make test` builds them too. Opened as files they have no search, which a browser allows only
# to pages that are served: python -m http.server --directory site
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

# A manual page for each command, in build/man; `cp build/man/*.1 ~/.local/share/man/man1` installs them.
man: $(STAMP)
	$(BIN)/python -m bms_async.cli.manual build/man

# The pictures of the progress and of the report's page, which people look at after a change of them.
pictures: $(STAMP) browser
	$(BIN)/python -m docs._site.progress_picture
	$(BIN)/python -m tests.browser.pictures

# What operators see on a terminal and in a pipe, as texts in tests/cli/captures, which people look at after a change.
captures: $(STAMP)
	BMS_CAPTURES=write $(BIN)/pytest -q tests/cli/test_captures.py

# For the tests that look at pages: the browser that is there, or Debian's where it may be installed. Without one they are
# passed over, and fail where CI is set.
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		if command -v $$name > /dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "There is no chromium and no chrome, and only root may install one by apt-get."; exit 0; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update --quiet -o Acquire::Retries=1 -o Acquire::http::Timeout=20; \
	apt-get install --yes --quiet --no-install-recommends chromium || echo "No chromium could be installed."

# A target that is missed is told, and does not keep the others from being measured.
bench: $(STAMP)
	-$(BIN)/python -m benchmarks.imports
	-$(BIN)/python -m benchmarks.commands
	-$(BIN)/python -m benchmarks.calls
	-$(BIN)/python -m benchmarks.hooks
	-$(BIN)/python -m benchmarks.listing
	-$(BIN)/python -m benchmarks.decode
	-$(BIN)/python -m benchmarks.signing
	-$(BIN)/python -m benchmarks.limiter
	-$(BIN)/python -m benchmarks.shared_limits
	-$(BIN)/python -m benchmarks.durable
	-$(BIN)/python -m benchmarks.fleet
	-$(BIN)/python -m benchmarks.each
	-$(BIN)/python -m benchmarks.holding
	-$(BIN)/python -m benchmarks.rollouts
	-$(BIN)/python -m benchmarks.native_fleets
	-$(BIN)/python -m benchmarks.polls
	-$(BIN)/python -m benchmarks.watch

clean:
	rm -rf $(VENV) build/man site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The constraints bind the build's own packages too, hence the variable and not the option.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --quiet --editable '.[dev]'
	touch $(STAMP)
