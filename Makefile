# `make` lists the targets. The first one that needs it installs into .venv; `VENV=` (empty) uses the active environment instead.
VENV ?= .venv
ARGS ?=
# Options of `accelerate launch`, such as LAUNCH="--num_processes 8" or LAUNCH="--config_file recipes/accelerate/fsdp.yaml"
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

bench: $(INSTALLED)  ## questions a second and memory of RECIPE (default: the demo's)
	$(PYTHON) -m vle_bench bench $(or $(RECIPE),recipes/demo/vqa-tiny.yaml) $(ARGS)

# make TARGET ARGS="train.seed=1": what is missing is said at once, without loading torch, then the launch.
define launch
	@$(PYTHON) -m vle_bench.recipe --inputs $(1) $(ARGS)
	$(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench train $(1) $(ARGS)
endef

# The file for the challenge server. RUN names the run folder where ARGS gives another than the recipe's.
define submission
	$(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench predict $(or $(RUN),$(1)) --split test --output $(or $(RUN),$(1))/vqa_test.json
endef

vqa-base: $(INSTALLED)  ## fine-tune VLE-base on VQA v2, score minival, write the server's file
	$(call launch,recipes/vqa/vle-base.yaml)
	$(call submission,runs/vle-base-vqa)

vqa-large: $(INSTALLED)  ## fine-tune VLE-large on VQA v2, score minival, write the server's file
	$(call launch,recipes/vqa/vle-large.yaml)
	$(call submission,runs/vle-large-vqa)

vcr-q2a-base: $(INSTALLED)  ## fine-tune VLE-base on VCR, question to answer
	$(call launch,recipes/vcr/vle-base-q2a.yaml)

vcr-q2a-large: $(INSTALLED)  ## fine-tune VLE-large on VCR, question to answer
	$(call launch,recipes/vcr/vle-large-q2a.yaml)

vcr-qa2r-base: $(INSTALLED)  ## fine-tune VLE-base on VCR, question and answer to rationale
	$(call launch,recipes/vcr/vle-base-qa2r.yaml)

vcr-qa2r-large: $(INSTALLED)  ## fine-tune VLE-large on VCR, question and answer to rationale
	$(call launch,recipes/vcr/vle-large-qa2r.yaml)

meter-vqa: $(INSTALLED)  ## fine-tune METER-base on VQA v2, score minival, write the server's file
	$(call launch,recipes/vqa/meter-base.yaml)
	$(call submission,runs/meter-base-vqa)

meter-vcr-q2a: $(INSTALLED)  ## fine-tune METER-base on VCR, question to answer
	$(call launch,recipes/vcr/meter-base-q2a.yaml)

meter-vcr-qa2r: $(INSTALLED)  ## fine-tune METER-base on VCR, question and answer to rationale
	$(call launch,recipes/vcr/meter-base-qa2r.yaml)

.PHONY: vqa-base vqa-large vcr-q2a-base vcr-q2a-large vcr-qa2r-base vcr-qa2r-large meter-vqa meter-vcr-q2a meter-vcr-qa2r
