# Two commands matter: `make demo` and `make test`. Both set up .venv first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,
space := $(subst x,,x x)
STAMP := $(VENV)/.ready
SITE := $(VENV)/.ready-for-docs
EXTRAS := test dev report dask ants lungmask anndata dicom dicomweb serve

.PHONY: demo test lint docs niivue lock audit sbom clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(subst $(space),$(comma),$(EXTRAS))]'
	touch $@

demo: $(STAMP)
	$(BIN)/anatograph demo demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site in site/, search included, without network; its tutorial is executed and its outputs are kept in build/.
# Then the code blocks of docs/ and README.md, which are tests too.
$(SITE): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	$(BIN)/python -m pytest tests/test_docs.py

# Fetch the pinned build of NiiVue, the report's viewer, from npm and check its hash; it is in the repository already.
niivue:
	tools/vendor_niivue.sh

# The lock file and the checks of a release (SECURITY.md). The tools stay out of .venv.
AUDIT := .audit
AUDITED ?= constraints.txt

$(AUDIT)/.ready:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet 'pip-audit>=2.7,<3' 'cyclonedx-bom>=5,<8' 'uv>=0.9'
	touch $@

# The newest versions that fit pyproject.toml: `make lock UPGRADE=--upgrade`; without it pinned versions stay. What torch
# needs for CUDA is left to torch, so that the file serves every build of it.
lock: $(AUDIT)/.ready
	$(AUDIT)/bin/uv pip compile pyproject.toml $(EXTRAS:%=--extra %) --extra docs --python-version 3.11 $(UPGRADE) \
	    --quiet --no-annotate --custom-compile-command 'make lock' --output-file constraints.txt
	sed -i '/^nvidia-/d; /^cuda-/d; /^triton==/d' constraints.txt

audit: $(AUDIT)/.ready
	$(AUDIT)/bin/pip-audit --strict --requirement $(AUDITED) --no-deps --disable-pip

sbom: $(AUDIT)/.ready $(STAMP)
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --no-validate \
	    --output-format JSON --output-file sbom.json

clean:
	rm -rf $(VENV) $(AUDIT) build site demo sbom.json
