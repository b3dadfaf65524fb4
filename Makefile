# Two commands matter: `make demo` and `make test`. Both set up .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test lint docs niivue audit sbom clean

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

# What is known against the pinned versions, and what a release is made of: SECURITY.md. The tools stand apart from .venv.
AUDIT := .audit
AUDITED ?= constraints.txt

$(AUDIT)/.ready:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet 'pip-audit>=2.7,<3' 'cyclonedx-bom>=5,<8'
	touch $@

audit: $(AUDIT)/.ready
	$(AUDIT)/bin/pip-audit --strict --requirement $(AUDITED) --no-deps --disable-pip

sbom: $(AUDIT)/.ready $(STAMP)
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --no-validate \
	    --output-format JSON --output-file sbom.json

clean:
	rm -rf $(VENV) $(AUDIT) demo sbom.json
