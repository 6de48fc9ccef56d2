# `make` lists the targets. The first one that needs it installs into .venv; `VENV=` (empty) uses the active environment instead.
VENV ?= .venv
ARGS ?=
# Options of `accelerate launch`, such as LAUNCH="--num_processes 8" or LAUNCH="--config_file recipes/accelerate/fsdp2.yaml"
LAUNCH ?=

ifeq ($(strip $(VENV)),)
PYTHON ?= python
INSTALLED :=
else
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
endif

# The Pythons that setup.cfg names, oldest first, and those of them that are found: under a name of their own, or as `python3`.
SUPPORTED := $(shell sed -n 's/^ *Programming Language :: Python :: \(3\.[0-9]*\)$$/\1/p' setup.cfg)
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
FOUND = $(foreach v,$(SUPPORTED),$(if $(filter $v,$(call version_of,python$v)),python$v,$(if $(filter $v,$(call version_of,python3)),python3)))
# PYTHON3=/path/to/python3.12 makes .venv with another Python than the newest of them.
PYTHON3 ?= $(or $(lastword $(FOUND)),python3)
# What pip is held to; CONSTRAINTS= (empty) gives the newest versions that setup.cfg allows.
CONSTRAINTS ?= constraints.txt
PIP_OPTIONS = $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade --upgrade-strategy eager)

# Stops where the chosen Python is none of them, and says which one was chosen where it is.
define choose_python
$(eval CHOSEN := $(PYTHON3))$(eval CHOSEN_VERSION := $(call version_of,$(CHOSEN)))
$(if $(CHOSEN_VERSION),,$(error $(CHOSEN) does not run; vle-bench needs Python $(firstword $(SUPPORTED)) to $(lastword $(SUPPORTED)): \
install one, or name it with PYTHON3=/path/to/python3.x))
$(if $(filter $(CHOSEN_VERSION),$(SUPPORTED)),,$(error $(CHOSEN) is Python $(CHOSEN_VERSION); vle-bench needs $(firstword $(SUPPORTED)) \
to $(lastword $(SUPPORTED)): install one, or name it with PYTHON3=/path/to/python3.x))
@echo "$(if $(filter $(call version_of,python3),$(SUPPORTED)),,python3 is $(or $(addprefix Python ,$(call version_of,python3)),missing), not \
$(firstword $(SUPPORTED)) to $(lastword $(SUPPORTED)): )$(CHOSEN) is Python $(CHOSEN_VERSION), installing into $(VENV)"
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-pythons fuzz lint tables bench gpu-check

help:  ## this list
	@grep -hE '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{n = split($$1, names, " "); for (i = 1; i <= n; i++) printf "%-20s %s\n", names[i], $$2}'

install: $(INSTALLED)  ## the pinned versions and this package into .venv

# torch alone first: it is by far the largest, and a broken download then costs nothing else.
$(VENV)/.installed: setup.cfg $(CONSTRAINTS)
	$(choose_python)
	$(CHOSEN) -m venv $(if $(filter $(CHOSEN_VERSION),$(call version_of,$(PYTHON))),,--clear) $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install $(PIP_OPTIONS) torch
	$(PYTHON) -m pip install $(PIP_OPTIONS) -e '.[demo,dev]'
	@touch $@

demo: $(INSTALLED)  ## the whole road on easy-VQA, in minutes on a CPU
	$(PYTHON) -m vle_bench demo $(ARGS)

test: $(INSTALLED)  ## the quick tests
	$(PYTHON) -m pytest $(ARGS)

test-slow: $(INSTALLED)  ## the tests of more than 20 seconds
	$(PYTHON) -m pytest -m slow $(ARGS)

# Four runs, two each on the oldest and on the newest Python, in .venvs/; all are made whatever fails, and named at the end.
# PYTHONS="/path/to/python3.10 python3.13" names others.
PYTHONS ?= $(sort $(firstword $(FOUND)) $(lastword $(FOUND)))

test-pythons:  ## the quick tests on the oldest and the newest Python found, with pinned and with the newest versions
	$(if $(strip $(PYTHONS)),,$(error no Python of $(SUPPORTED) is found: PYTHONS="/path/to/python3.x ..." names them))
	@echo "on: $(PYTHONS)"; failed=; \
	for python in $(PYTHONS); do \
		name=.venvs/$$(basename $$python); rm -f $$name-newest/.installed; \
		$(MAKE) test VENV=$$name-pinned PYTHON3=$$python CONSTRAINTS=constraints.txt || failed="$$failed $$name-pinned"; \
		$(MAKE) test VENV=$$name-newest PYTHON3=$$python CONSTRAINTS= || failed="$$failed $$name-newest"; \
	done; \
	if test -n "$$failed"; then echo "the tests failed in$$failed" >&2; exit 1; fi; echo "the tests passed on: $(PYTHONS)"

fuzz: $(INSTALLED)  ## thousands of damaged files of each kind: ARGS="--kind vqa --cases 500 --seed 1"
	$(PYTHON) -m tests.long.fuzz $(ARGS)

lint: $(INSTALLED)  ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy vle_bench

tables: $(INSTALLED)  ## render leaderboards/ again from the records
	$(PYTHON) -m vle_bench table $(ARGS)

# Without RECIPE: VLE-base at 224 pixels in float32 on synthetic data, in steps of four questions, so that it takes minutes on two
# cores and less than 16 GB: VQA's training and evaluation (16 questions a batch), then VCR's Q2A (16 choices a batch).
BENCH := --synthetic --naive --steps 3 --evaluation-batch-size 16 model.image_size=224 train.precision=fp32 train.batch_size=4 \
	train.per_device_batch_size=4

bench: $(INSTALLED)  ## samples/s at base size beside the published way, or of RECIPE
ifdef RECIPE
	$(PYTHON) -m vle_bench bench $(RECIPE) $(ARGS)
else
	$(PYTHON) -m vle_bench bench recipes/vqa/vle-base.yaml $(BENCH) $(ARGS)
	$(PYTHON) -m vle_bench bench recipes/vcr/vle-base-q2a.yaml $(BENCH) $(ARGS)
endif

# On a machine without network: VENV= make gpu-check, with torch, transformers, accelerate and sentencepiece installed there.
gpu-check: $(INSTALLED)  ## right numbers, speed, loading, resuming on one GPU, in at most 8 minutes
	$(PYTHON) -m tests.long.gpu_check $(ARGS)

# make TARGET ARGS="train.seed=1": what is missing is said at once, without loading torch, then the launch.
define launch
	@$(PYTHON) -m vle_bench.recipe.preflight $(1) $(ARGS)
	$(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench train $(1) $(ARGS)
endef

# The file for the challenge server, then the record among the others and the tables. RUN names the run folder where ARGS gives
# another than the recipe's.
define submission
	test -f $(or $(RUN),$(1))/vqa_test.json || \
	$(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench predict $(or $(RUN),$(1)) --split test --output $(or $(RUN),$(1))/vqa_test.json
	$(PYTHON) -m vle_bench table --if-new --add $(or $(RUN),$(1))
endef

define vcr
	$(call launch,recipes/vcr/$(1).yaml)
	$(PYTHON) -m vle_bench table --if-new --add $(or $(RUN),runs/$(2))
endef

# Both VCR runs are there: Q2AR of the two, and the table.
define q2ar
	$(PYTHON) -m vle_bench evaluate runs/$(1)-q2a --with runs/$(1)-qa2r
	$(PYTHON) -m vle_bench table --if-new --add runs/$(1)-q2a/results/vcr_q2ar.val.json
endef

vqa-base: $(INSTALLED)  ## fine-tune VLE-base on VQA v2, score minival, write the server's file
	$(call launch,recipes/vqa/vle-base.yaml)
	$(call submission,runs/vle-base-vqa)

vqa-large: $(INSTALLED)  ## fine-tune VLE-large on VQA v2, score minival, write the server's file
	$(call launch,recipes/vqa/vle-large.yaml)
	$(call submission,runs/vle-large-vqa)

meter-vqa: $(INSTALLED)  ## fine-tune METER-base on VQA v2, score minival, write the server's file
	$(call launch,recipes/vqa/meter-base.yaml)
	$(call submission,runs/meter-base-vqa)

meter-vqa-all: $(INSTALLED)  ## METER's published run: all of train and val, last checkpoint, the server's file
	$(call launch,recipes/vqa/meter-base-all.yaml)
	$(call submission,runs/meter-base-vqa-all)

vcr-base: vcr-q2a-base vcr-qa2r-base  ## fine-tune VLE-base on both VCR tasks, and join them: Q2AR
	$(call q2ar,vle-base-vcr)

vcr-q2a-base: $(INSTALLED)  ## fine-tune VLE-base on VCR, question to answer
	$(call vcr,vle-base-q2a,vle-base-vcr-q2a)

vcr-qa2r-base: $(INSTALLED)  ## fine-tune VLE-base on VCR, question and answer to rationale
	$(call vcr,vle-base-qa2r,vle-base-vcr-qa2r)

vcr-joint-base: $(INSTALLED)  ## fine-tune VLE-base on both VCR tasks at once
	$(call vcr,vle-base-joint,vle-base-vcr-joint)

vcr-large: vcr-q2a-large vcr-qa2r-large  ## fine-tune VLE-large on both VCR tasks, and join them: Q2AR
	$(call q2ar,vle-large-vcr)

vcr-q2a-large: $(INSTALLED)  ## fine-tune VLE-large on VCR, question to answer
	$(call vcr,vle-large-q2a,vle-large-vcr-q2a)

vcr-qa2r-large: $(INSTALLED)  ## fine-tune VLE-large on VCR, question and answer to rationale
	$(call vcr,vle-large-qa2r,vle-large-vcr-qa2r)

meter-vcr: meter-vcr-q2a meter-vcr-qa2r  ## fine-tune METER-base on both VCR tasks, and join them: Q2AR
	$(call q2ar,meter-base-vcr)

meter-vcr-q2a: $(INSTALLED)  ## fine-tune METER-base on VCR, question to answer
	$(call vcr,meter-base-q2a,meter-base-vcr-q2a)

meter-vcr-qa2r: $(INSTALLED)  ## fine-tune METER-base on VCR, question and answer to rationale
	$(call vcr,meter-base-qa2r,meter-base-vcr-qa2r)

# A published checkpoint, before anything is trained: the scores of minival and val, the server's file, the published figures. Both
# splits were trained on (VLE: train and val but for 1,000 images that nobody can name, `write_vqa.py`; METER: all of both, its
# issue 11), so their scores are high and never ranked; what the server says of the file is to be held against the published one.
define score-vqa
	@test -f data/vqav2/manifest.json || { echo "data/vqav2: no prepared data there: README, Run VQA v2 for real" >&2; exit 2; }
	$(2)
	$(EVALUATE) checkpoints/$(1) --data data/vqav2 --split minival --trained-on train+val --published $(3)
	$(EVALUATE) checkpoints/$(1) --data data/vqav2 --split val --trained-on train+val --published $(3)
	test -f results/$(1)/vqa_test.json || \
	$(PREDICT) checkpoints/$(1) --data data/vqav2 --split test --output results/$(1)/vqa_test.json
	@echo "What the server answers: vle-bench evaluate checkpoints/$(1) --data data/vqav2 --split test-dev \
	--server-result FILE --trained-on train+val --published $(3)"
endef

# Trained on train alone (VLE README): val is what its figures are of.
define score-vcr
	@test -f data/vcr/manifest.json || { echo "data/vcr: no prepared data there: README, Run VCR for real" >&2; exit 2; }
	$(call fetch,$(1)-for-vcr-q2a)
	$(call fetch,$(1)-for-vcr-qa2r)
	$(EVALUATE) checkpoints/$(1)-for-vcr-q2a --data data/vcr --split val --trained-on train --published $(2)
	$(EVALUATE) checkpoints/$(1)-for-vcr-qa2r --data data/vcr --split val --trained-on train --published $(2)
	$(PYTHON) -m vle_bench evaluate checkpoints/$(1)-for-vcr-q2a --with checkpoints/$(1)-for-vcr-qa2r --data data/vcr --split val \
	--published $(2)
endef

EVALUATE = $(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench evaluate
PREDICT = $(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench predict
HF = $(PYTHON) -m huggingface_hub.cli.hf
fetch = $(HF) download hfl/$(1) --local-dir checkpoints/$(1)

score-vle-vqa-base: $(INSTALLED)  ## score the published VLE-base for VQA v2 beside its published figure
	$(call score-vqa,vle-base-for-vqa,$(call fetch,vle-base-for-vqa),VLE-base)

score-vle-vqa-large: $(INSTALLED)  ## score the published VLE-large for VQA v2 beside its published figure
	$(call score-vqa,vle-large-for-vqa,$(call fetch,vle-large-for-vqa),VLE-large)

score-vle-vcr-base: $(INSTALLED)  ## score the two published VLE-base for VCR beside their published figures, and join them
	$(call score-vcr,vle-base,VLE-base)

score-vle-vcr-large: $(INSTALLED)  ## score the two published VLE-large for VCR beside their published figures, and join them
	$(call score-vcr,vle-large,VLE-large)

score-meter-vqa: checkpoints/meter-base-for-vqa/config.json  ## convert METER's fine-tuned VQA checkpoint, score it beside its figure
	$(call score-vqa,meter-base-for-vqa,,METER-base)

METER := checkpoints/meter-base-for-vqa
METER_URL := https://github.com/zdou0830/METER/releases/download/checkpoint/meter_clip16_288_roberta_vqa.ckpt

# METER's checkpoint does not hold its answers: they are in the order in which the official annotations bring them.
$(METER)/config.json: | $(INSTALLED)
	test -f $(METER).ckpt || { curl --fail --location --create-dirs --output $(METER).ckpt.partial $(METER_URL) && \
	mv $(METER).ckpt.partial $(METER).ckpt; }
	$(HF) download FacebookAI/roberta-base --local-dir checkpoints/roberta-base
	$(PYTHON) -m vle_bench convert $(METER).ckpt --tokenizer checkpoints/roberta-base --answers data/vqav2-official --output $(METER)

.PHONY: score-vle-vqa-base score-vle-vqa-large score-vle-vcr-base score-vle-vcr-large score-meter-vqa
.PHONY: vqa-base vqa-large meter-vqa meter-vqa-all vcr-base vcr-q2a-base vcr-qa2r-base vcr-joint-base vcr-large vcr-q2a-large vcr-qa2r-large \
	meter-vcr meter-vcr-q2a meter-vcr-qa2r
