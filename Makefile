# The two commands: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Where no bytecode may lie beside sources, each of some twenty processes would compile PyTorch anew.
ifdef PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode
export PYTHONDONTWRITEBYTECODE :=
endif

.PHONY: help env data demo repro ui table exps params format check test test-all test-fast requirements

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

env: $(READY)  ## create .venv from requirements.txt (CUDA torch on Linux; the CPU needs no other)

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.12 …")'
	@if command -v uv >/dev/null; then \
	    uv venv -q --allow-existing --python "$$(command -v $(PYTHON))" $(VENV); \
	    uv pip install -q --python $(VENV)/bin/python -r requirements.txt; \
	else \
	    $(PYTHON) -m venv $(VENV) && $(VENV)/bin/python -m pip install -q uv && \
	    $(VENV)/bin/uv pip install -q --python $(VENV)/bin/python -r requirements.txt; \
	fi
	@touch $@

data: $(READY)  ## fetch the embedded dataset from the remote inside the repository
	dvc pull -q -r embedded data.dvc

demo: data  ## the whole pipeline on the embedded dataset
	dvc repro
	@echo
	@echo "report:   work/report/report.html"
	@echo "compare:  make ui"

repro: $(READY)  ## run params.yaml as it stands
	dvc repro

ui: $(READY)  ## send what is not sent yet, then open MLflow's UI (make ui PORT=5050)
	@python -m stages.track --ui $(if $(PORT),--port $(PORT))

table: $(READY)  ## all finished runs as one table (make table ARGS='--counting plop --out table.tex')
	@python -m stages.compare $(ARGS)

exps: $(READY)  ## DVC's experiments on one screen; more columns: make exps ARGS="--keep forgetting"
	@dvc exp show --no-pager --drop '.*' --keep '^(Experiment|all|base_nobg|added_nobg)$$' \
	    --keep '^(seed|method.name|scenario.name)$$' $(ARGS)

params: $(READY)  ## compose the default params.yaml from conf/
	python -m stages.compose params.yaml

.PHONY: docs
docs: $(READY)  ## build the documentation site in site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

requirements: $(READY)  ## pin the newest versions that fit pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate \
	    --extra pipeline --group dev pyproject.toml -o requirements.txt --upgrade

format: $(READY)  ## lay out the code
	ruff check -q --fix . ; ruff format -q .

check: $(READY)  ## linter, layout, types, import rules
	ruff check .
	ruff format --check .
	pyright
	lint-imports

# one thread a process: two torch processes with two threads each are five times slower on two cores;
# and files in the order that tests/conftest.py gives them
PYTEST := OMP_NUM_THREADS=1 pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: check  ## check, and all tests but the longest
	$(PYTEST) -m "not long"

test-all: check  ## check, and all tests, those of minutes too
	$(PYTEST)

test-fast: $(READY)  ## the tests that drive no DVC and train nothing for long
	$(PYTEST) -m "not dvc and not slow and not long"
