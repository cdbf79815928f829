# Every verb of the project. Needs Python >= 3.11 and make; the first call sets up .venv.

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# A person sees the downloads' progress; a log needs no list of 150 packages.
PIP_INSTALL = $(BIN)/uv pip install $(if $(CI),--quiet) --python $(BIN)/python
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --no-header --no-annotate --quiet

# `make demo WORKSPACE=… SERVE=0`, `make test ARGS="-k tiling"`, `make bench ARGS=--record`
WORKSPACE ?= workspace
SERVE ?= 1
KILLS ?= 500
ARGS ?=
# Processes that test side by side: first all but browsers and whole studios, each with one thread; then those, a file
# of tests at a time. `STUDIOS=1` leaves each of them the machine to itself.
TESTERS ?= 2
STUDIOS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install dev demo app test soak check format bench screenshots lock

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

install: $(VENV)/.installed ## Set up .venv with the pinned requirements; seconds when nothing changed
	@echo "$(VENV) is ready: make demo, make app, or $(BIN)/segcore --help"

# Set-up comes before everything else, also under `make -j`.
.NOTPARALLEL:

# In a project that was moved, the commands in .venv/bin still name the old place: make the environment anew.
ifneq ($(CURDIR),$(shell cat $(VENV)/.folder 2>/dev/null))
.PHONY: $(VENV)/.installed $(VENV)/.developed
endif

$(VENV)/.installed: requirements.txt pyproject.toml scripts/make-venv.sh
	@echo "Setting up $(VENV): a minute or more the first time, mostly for PyTorch."
	@sh scripts/make-venv.sh $(VENV) $(UV_VERSION)
	@$(PIP_INSTALL) -r requirements.txt
	@$(PIP_INSTALL) --no-deps -e .
	@touch $@

dev: $(VENV)/.developed ## Add the tools for developers: pytest, ruff, mypy, import-linter, Playwright

$(VENV)/.developed: $(VENV)/.installed requirements-dev.txt
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

demo: install ## Train and apply a small sample model, then serve the app and MLflow until Ctrl-C (SERVE=0: do not serve)
	@$(BIN)/segcore demo --workspace $(WORKSPACE) $(if $(filter-out 0,$(SERVE)),--serve) $(ARGS)

app: install ## Serve the app, a worker and MLflow on your own workspace until Ctrl-C
	@$(BIN)/segcore serve $(ARGS)

test: dev ## Run the test suite; ARGS are pytest's
ifneq (,$(findstring tests/,$(ARGS)))
	@$(BIN)/python -m pytest $(ARGS)
else
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --ignore tests/e2e $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest tests/e2e $(if $(filter-out 1,$(STUDIOS)),-n $(STUDIOS) --dist loadfile) $(ARGS) || [ $$? -eq 5 ] # 5: none was chosen
endif

soak: dev ## Kill processes 500 times at random moments of trainings and segmentations (KILLS=…)
	@SEGCORE_KILLS=$(KILLS) $(BIN)/python -m pytest tests/e2e/faults -x -rA $(ARGS)

check: dev ## ruff, mypy and import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports --config importlinter.ini

format: dev ## Let ruff format the code and repair what it can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: install ## Measure speed beside plain PyTorch; ARGS=--record keeps the result in benchmarks/README.md
	@$(BIN)/python -m benchmarks $(ARGS)

screenshots: dev ## Drive every step and tab in Chromium and renew docs/screenshots
	@$(BIN)/python scripts/screenshots.py $(ARGS)

lock: dev ## Renew the pins after a change in pyproject.toml; ARGS=--upgrade takes newer versions
	@$(COMPILE) $(ARGS) --output-file requirements.txt
	@$(COMPILE) $(ARGS) --all-extras --group dev --constraint requirements.txt --output-file requirements-dev.txt
