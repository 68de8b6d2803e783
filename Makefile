# `make` lists the targets. All of them share one .venv, so that going from one to another needs no network.
# PYTHON=... chooses the interpreter that makes it; ARGS=... is handed on to pytest or to `thawline quickstart`.

EXTRAS := quickstart,test,dev
BIN := .venv/bin
STAMP := .venv/made-from
ADEQUATE := import sys; sys.exit(sys.version_info < (3, 11))
# What .venv was made from: this place and this pyproject.toml, compared by content (a clone has new times on old files).
MADE_FROM := { pwd && cat pyproject.toml; }

.PHONY: help setup venv test test-browser check quickstart clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20

setup: ## make .venv and install into it; does nothing where it is ready
	@$(MADE_FROM) | cmp -s - $(STAMP) && $(BIN)/python -c '$(ADEQUATE)' || $(MAKE) --no-print-directory venv

venv:
	@python=; for p in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14; do \
	  if $$p -c '$(ADEQUATE)' >/dev/null 2>&1; then python=$$p; break; fi; done; \
	if [ -z "$$python" ]; then echo "Thawline needs Python 3.11 or later and found none; install one or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; fi; \
	if ! $(BIN)/python -c 'import pip; $(ADEQUATE)' 2>/dev/null && ! $$python -m venv --clear .venv; then \
	  echo "$$python cannot make .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; fi
	@echo "Installing into .venv (the first time: some minutes, most of them for torch) ..."
	@rm -f $(STAMP)
	@# An older pip builds what comes as source by its setup.py, within .venv, where that may find nothing that it needs.
	$(BIN)/python -m pip install --disable-pip-version-check --use-pep517 --editable ".[$(EXTRAS)]"
	@$(MADE_FROM) > $(STAMP)

test: setup ## run the tests
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-browser: setup ## look at the report in a real browser
	@axe=$$(tests/browser/setup.sh $(BIN)/python) && THAWLINE_AXE=$$axe OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/browser -n 0 $(ARGS)

check: setup ## lint, format, types, and the shape of the code
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_shape.py

quickstart: setup ## fine-tune a real model on real data and show what came of it
	$(BIN)/thawline quickstart $(ARGS)

clean: ## remove caches and built files; .venv and runs stay
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +
