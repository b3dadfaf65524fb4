# Two commands matter: `make demo` and `make test`. Both set up .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test lint docs niivue clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev,report,dask,ants,lungmask]'
	touch $@

demo: $(STAMP)
	$(BIN)/anatograph demo demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The code blocks of docs/ and README.md are tests; this runs just them.
docs: $(STAMP)
	$(BIN)/python -m pytest tests/test_docs.py

# Fetch the pinned build of NiiVue, the report's viewer, from npm and check its hash; it is in the repository already.
niivue:
	tools/vendor_niivue.sh

clean:
	rm -rf $(VENV) demo
