# make demo    everything, from an empty environment to a tuned checkpoint and its evaluation
# make test    the tests, without those below
# make test-long  the long ones: whole runs, kills, and over a Dagster daemon, a browser, PostgreSQL and Slurm of their own
# make ui      the web UI over the history of earlier runs, on http://127.0.0.1:3000
# make lint    ruff, mypy, and which room imports which
# make lpips   the weights of LPIPS (0.5 GB), for the column lpips and for training a DiFix
# make lpips-alex  those of its AlexNet (0.3 GB), for the column lpips_alex
# make bench   benchmarks, written to benchmarks/results.md
# make soak    the tests that take hours
# make screenshots  the pictures of docs/ui_tour.md, from the demo's history
# make install only the environment, in .venv
# make clean   takes the environment and all caches away; data/ stays

PYTHON ?= python3
ARGS ?=
# Tests run side by side in so many processes; a file's tests stay together.
JOBS ?= 2

BIN := .venv/bin
# Quiet: hundreds of lines of what is downloaded hide the few that matter. Errors are shown whole.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
VGG16 := https://download.pytorch.org/models/vgg16-397923af.pth
ALEXNET := https://download.pytorch.org/models/alexnet-owt-7be5be79.pth
RUN_STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
BENCH_STAMP := .venv/.installed-bench
SOURCES := pyproject.toml constraints.txt

export PYTHONUNBUFFERED := 1

.PHONY: help demo test test-long ui lint lpips lpips-alex bench soak screenshots install clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/  \1/p' Makefile

demo: $(RUN_STAMP)
	@$(BIN)/thesis-assets demo

ui: $(RUN_STAMP)
	@$(BIN)/thesis-assets ui

test: $(DEV_STAMP)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not soak and not long" $(ARGS)
	@echo "All tests passed. Next: make ui (the asset graph and its history), docs/your_own_scenes.md (your own data)."

test-long: $(DEV_STAMP)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "long and not soak" --timeout 1500 $(ARGS)

# pytest's exit code 5: no test was selected.
soak: $(DEV_STAMP)
	@$(BIN)/python -m pytest -m soak $(ARGS); code=$$?; \
	if [ $$code -eq 5 ]; then echo "There is no soak test in this version."; else exit $$code; fi

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

lpips: BACKBONE := $(VGG16)
lpips-alex: BACKBONE := $(ALEXNET)
lpips lpips-alex: $(RUN_STAMP)
	@$(PIP) install --no-deps lpips==0.1.4
	@$(BIN)/python -c "import torch; torch.hub.load_state_dict_from_url('$(BACKBONE)', map_location='cpu', check_hash=True)"
	@echo "The weights of LPIPS are there. What is measured already is measured again by: $(BIN)/thesis-assets backfill --exp demo --all"

bench: $(BENCH_STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

screenshots: $(DEV_STAMP)
	@$(BIN)/python scripts/take_screenshots.py

install: $(RUN_STAMP)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) -V). Name another: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "'$(PYTHON)' cannot make environments. On Debian and Ubuntu: sudo scripts/install_system_packages.sh"; exit 1; }
	@echo "Making the environment .venv with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# A newer stamp than both files: nothing to install, and make does not even start pip.
$(RUN_STAMP): $(SOURCES) | $(BIN)/python
	@echo "Installing into .venv. The first time takes some minutes, without a word: torch alone is hundreds of megabytes."
	@$(PIP) install --progress-bar off -c constraints.txt -e '.[demo]'
	@touch $@

$(DEV_STAMP): $(SOURCES) | $(BIN)/python
	@echo "Installing the development tools"
	@$(PIP) install --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $(RUN_STAMP) $@

$(BENCH_STAMP): $(DEV_STAMP)
	@echo "Installing what the benchmarks compare with"
	@$(PIP) install --progress-bar off -c constraints.txt -e '.[dev,bench]'
	@touch $(RUN_STAMP) $(DEV_STAMP) $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist test_artifacts *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "data/ is left alone: what the platform made lies there."
