# Koma: `make demo` and `make test` set everything up themselves. `make help` lists the rest.
SHELL := /bin/bash
PYTHON := .venv/bin/python
export PYTHONPATH := python_nodes
export OMP_NUM_THREADS ?= 1
MINUTES ?= 120
SCALE ?= 1
# As the server runs.
EMULATOR := ELIXIR_ERL_OPTIONS="-args_file rel/vm.args.eex"
PYTHON_CODE := python_nodes tests test/support examples scripts

.PHONY: help setup demo serve test test-setup test-elixir test-python test-browser soak soak-storms soak-load soak-media check format bench clean

# What is tested, shown and measured lies here already; the models of `make serve` may come from the hub.
demo test test-elixir test-python test-browser check soak soak-storms soak-load soak-media bench: export HF_HUB_OFFLINE := 1

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## install what is missing (Debian, PyPI, npm); says what it installs
	@scripts/setup.sh

demo: setup ## a video in; a caption, an image and a video out, in out/story
	@env -u OMP_NUM_THREADS mix compile --no-deps-check
	@env -u OMP_NUM_THREADS $(PYTHON) -m koma.cli.main demo

serve: setup ## start the server in the foreground
	@env -u OMP_NUM_THREADS mix compile --no-deps-check
	@env -u OMP_NUM_THREADS $(PYTHON) -m koma.cli.main serve

test: test-setup ## the three suites: ExUnit, pytest, and the pages in Chromium; JOBS=2 parts of them at a time
	$(EMULATOR) $(PYTHON) scripts/suites.py

test-setup:
	@scripts/setup.sh --browser

test-elixir test-python test-browser: test-%:
	$(EMULATOR) $(PYTHON) scripts/suites.py $*

soak: ## every storm at full size, then MINUTES=120 of mixed load and faults; SCALE=0.1 a tenth of the storms
	@status=0; $(MAKE) soak-storms || status=1; $(MAKE) soak-media || status=1; $(MAKE) soak-load || status=1; exit $$status

soak-storms:
	KOMA_SOAK_SCALE=$(SCALE) MIX_ENV=test $(EMULATOR) mix test --only soak

soak-media: ## FILES=20000 mutated pictures and clips, read as model nodes read them
	mix compile --no-deps-check
	$(PYTHON) -m tests.soak.media --files $(or $(FILES),20000)

soak-load:
	mix compile --no-deps-check
	$(PYTHON) -m tests.soak --minutes $(MINUTES)

check: test-setup ## format, warnings as errors, Dialyzer, ruff, mypy, all suites
	mix format --check-formatted
	MIX_ENV=test mix compile --force --warnings-as-errors
	mix compile --force --warnings-as-errors
	mix dialyzer
	.venv/bin/ruff format --check $(PYTHON_CODE)
	.venv/bin/ruff check $(PYTHON_CODE)
	.venv/bin/mypy
	$(EMULATOR) $(PYTHON) scripts/suites.py

format: ## format both languages
	mix format
	.venv/bin/ruff format $(PYTHON_CODE)
	.venv/bin/ruff check --fix-only $(PYTHON_CODE)

bench: ## measure; ONLY=road,table some sections, QUICK=1 less, SEED=7 the same again; see docs/benchmarks.md
	@scripts/setup.sh bench
	@mix compile --no-deps-check
	@env -u OMP_NUM_THREADS $(PYTHON) -m koma.bench

clean: ## remove what was built, not what was installed
	rm -rf _build out data .mypy_cache .ruff_cache .pytest_cache
