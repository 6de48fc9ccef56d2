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

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint tables bench

help:  ## this list
	@grep -hE '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{n = split($$1, names, " "); for (i = 1; i <= n; i++) printf "%-18s %s\n", names[i], $$2}'

install: $(INSTALLED)  ## the pinned versions and this package into .venv

# torch alone first: it is by far the largest, and a broken download then costs nothing else.
$(VENV)/.installed: setup.cfg constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install -c constraints.txt torch
	$(PYTHON) -m pip install -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: $(INSTALLED)  ## the whole road on easy-VQA, in minutes on a CPU
	$(PYTHON) -m vle_bench demo $(ARGS)

test: $(INSTALLED)  ## the quick tests
	$(PYTHON) -m pytest $(ARGS)

test-slow: $(INSTALLED)  ## the tests of more than 20 seconds
	$(PYTHON) -m pytest -m slow $(ARGS)

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

.PHONY: vqa-base vqa-large meter-vqa vcr-base vcr-q2a-base vcr-qa2r-base vcr-joint-base vcr-large vcr-q2a-large vcr-qa2r-large \
	meter-vcr meter-vcr-q2a meter-vcr-qa2r
