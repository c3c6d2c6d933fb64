# make setup | demo | table | test | test-fast | lint | format | clean
# Needs make and Python 3.11-3.13; every other verb sets up the environment first.
# Another interpreter: make setup PYTHON=/usr/bin/python3.12.  Another place: make test VENV=/somewhere

PYTHON ?= $(shell for v in python3.13 python3.12 python3.11 python3 python; do \
	"$$v" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo "$$v" && break; done)
VENV ?= .venv
DEMO ?= runs/demo
DEMO_EDITS ?= null
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
TABLE ?= runs/table
WORLD ?= data=world
MODELS ?= llava_tiny
EDITS ?= null
.PHONY: help setup demo table test test-fast lint format clean

# Nothing here needs a network once the environment stands; one thread per process, two processes.
export HF_HUB_OFFLINE ?= 1
export WANDB_MODE ?= offline
test test-fast: export OMP_NUM_THREADS = 1

help:
	@head -4 Makefile

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -rf tmke.egg-info
	@touch $(READY)

# Trains MEND on llava_tiny, judges the unedited model, FT and MEND in three scenarios, writes the report.
SCENARIOS := unimodal,transitive,multimodal
demo: $(READY)
	$(PY) train.py experiment=demo editor=mend output_dir=$(DEMO)/train-mend overwrite=true
	$(PY) evaluate.py -m experiment=demo editor=none,ft scenario=$(SCENARIOS) data.limit=$(DEMO_EDITS) \
	  output_dir=$(DEMO)/training-free overwrite=true
	$(PY) evaluate.py -m experiment=demo ckpt=$(DEMO)/train-mend/checkpoints/best.ckpt \
	  scenario=$(SCENARIOS) data.limit=$(DEMO_EDITS) output_dir=$(DEMO)/mend overwrite=true
	$(PY) report.py $(DEMO)/train-mend $(DEMO)/training-free/? $(DEMO)/mend/? \
	  --output $(DEMO)/report --overwrite

# All five editors and the unedited model, three scenarios, one report. All tiny models, 100 edits each:
# make table TABLE=runs/grid MODELS="blip2_opt_tiny minigpt4_tiny llava_tiny" EDITS=100
# Another world, with its model: make table TABLE=runs/mine WORLD="data=folder data.root=DIR model.path=RUN/model"
table: $(READY)
	for model in $(MODELS); do \
	  of="model=$$model $(WORLD)"; to=$(TABLE)/$$model; \
	  for editor in mend serac; do \
	    $(PY) train.py experiment=demo editor=$$editor $$of output_dir=$$to/train-$$editor overwrite=true; \
	    $(PY) evaluate.py -m experiment=demo ckpt=$$to/train-$$editor/checkpoints/best.ckpt \
	      scenario=$(SCENARIOS) data.limit=$(EDITS) output_dir=$$to/$$editor overwrite=true; \
	  done; \
	  $(PY) evaluate.py -m experiment=demo editor=none,ft,ike $$of scenario=$(SCENARIOS) \
	    data.limit=$(EDITS) output_dir=$$to/training-free overwrite=true; \
	  $(PY) evaluate.py -m experiment=demo editor=rome $$of scenario=unimodal,transitive \
	    data.limit=$(EDITS) output_dir=$$to/rome overwrite=true; \
	done
	$(PY) report.py $(foreach model,$(MODELS),$(foreach part,train-mend train-serac mend/? serac/? \
	  training-free/? rome/?,$(TABLE)/$(model)/$(part))) --output $(TABLE)/report --overwrite

# The longest modules, those of tests/e2e, come first, so that both processes end together.
test: $(READY)
	$(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

# What a developer runs between two edits: no entry point, nothing slow.
test-fast: $(READY)
	$(PY) -m pytest -n 2 --dist loadscope -m "not slow and not e2e" $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
