# `make` lists the targets. The first one that needs it installs into .venv. `VENV=` (empty) uses the active environment.
VENV ?= .venv
ARGS ?=
# Options of `accelerate launch`, such as LAUNCH="--num_processes 8" or LAUNCH="--config_file recipes/accelerate/fsdp2.yaml"
LAUNCH ?=

HERE := $(dir $(lastword $(MAKEFILE_LIST)))

ifeq ($(strip $(VENV)),)
PYTHON ?= python
INSTALLED :=
else
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
endif

# The Pythons that setup.cfg names, oldest first, and those that are found: under their own name, or as `python3`.
SUPPORTED := $(shell sed -n 's/^ *Programming Language :: Python :: \(3\.[0-9]*\)$$/\1/p' $(HERE)setup.cfg)
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
FOUND = $(foreach v,$(SUPPORTED),$(if $(filter $v,$(call version_of,python$v)),python$v,$(if $(filter $v,$(call version_of,python3)),python3)))
# PYTHON3=/path/to/python3.12 makes .venv with another Python than the newest of them.
PYTHON3 ?= $(or $(lastword $(FOUND)),python3)
# What pip is held to; CONSTRAINTS= (empty) gives the newest versions that setup.cfg allows.
CONSTRAINTS ?= constraints.txt
PIP_OPTIONS = $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade --upgrade-strategy eager)

# Refuse a Python that is not supported; else print which one was chosen.
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
.PHONY: help install demo study test test-processes test-slow test-pythons fuzz lint tables bench gpu-check

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

study: $(INSTALLED)  ## what VLE claims over METER, measured in small models; hours on two cores, goes on if interrupted
	$(PYTHON) -m vle_bench study $(ARGS)

# A process a core (-n 0: none but pytest's own), each with one thread (tests/conftest.py). A file stays in one process, which
# makes what its tests share once; files start in the order of their names, tests/e2e with the longest ones first.
PARALLEL ?= -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)  ## the quick tests
	$(PYTHON) -m pytest $(PARALLEL) $(ARGS)

test-processes: $(INSTALLED)  ## the tests that start several processes, kill and resume them
	$(PYTHON) -m pytest -m 'processes and not slow and not gpu' $(PARALLEL) $(ARGS)

test-slow: $(INSTALLED)  ## the tests of more than 20 seconds
	$(PYTHON) -m pytest -m slow $(ARGS)

# Four runs in .venvs/: the oldest and the newest Python, with pinned and with newest versions. A failure does not stop the
# others; the failed ones are listed at the end. PYTHONS="/path/to/python3.10 python3.13" names other Pythons.
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

# Without RECIPE: VLE-base at 224 pixels in float32 on synthetic data, with micro-batches that two cores compute within five
# minutes, both recipes together, in less than 10 GB.
BENCH := --synthetic --naive --steps 2 model.image_size=224 train.precision=fp32
BENCH_VQA := --evaluation-batch-size 16 train.batch_size=4 train.per_device_batch_size=4
BENCH_VCR := --evaluation-batch-size 8 train.batch_size=2 train.per_device_batch_size=2

bench: $(INSTALLED)  ## samples/s at base size beside the published way, or of RECIPE
ifdef RECIPE
	$(PYTHON) -m vle_bench bench $(RECIPE) $(ARGS)
else
	$(PYTHON) -m vle_bench bench recipes/vqa/vle-base.yaml $(BENCH) $(BENCH_VQA) $(ARGS)
	$(PYTHON) -m vle_bench bench recipes/vcr/vle-base-q2a.yaml $(BENCH) $(BENCH_VCR) $(ARGS)
endif

# On a machine without network, `make gpu-check VENV=` needs torch, transformers, accelerate and sentencepiece.
gpu-check: $(INSTALLED)  ## right numbers, speed, loading, resuming on one GPU, in at most 8 minutes
	$(PYTHON) -m tests.long.gpu_check $(ARGS)

# `make finetune RECIPE=vqa/vle-base ARGS="train.seed=1"`, or one of the short names below. RECIPE is a shipped recipe or a file of
# your own. RUN names the run folder where ARGS gives another one than the recipe's.
recipe = $(or $(wildcard $(1)),recipes/$(patsubst recipes/%,%,$(patsubst %.yaml,%,$(1))).yaml)
# A recipe and those that it extends, at most nine: a recipe that extends itself is refused by the command, not here.
bases = $(if $(word 9,$(2)),,$(foreach base,$(shell sed -n 's/^extends: *//p' $(1)),\
	$(call chain,$(firstword $(wildcard $(dir $(1))$(base) $(HERE)recipes/$(base))),$(2) x)))
chain = $(if $(1),$(1) $(call bases,$(1),$(2)))
files = $(call chain,$(firstword $(wildcard $(call recipe,$(1)) $(HERE)$(call recipe,$(1)))))
named = $(firstword $(foreach file,$(call files,$(1)),$(shell sed -n 's/^name: *\([^ ]*\).*/\1/p' $(file))))
run = $(or $(RUN),runs/$(call named,$(1)))
# The dataset of a recipe, which it states or takes from those that it extends. `expect` has a source too, in capitals.
source = $(firstword $(foreach file,$(call files,$(1)),$(shell sed -n 's/^[^\#]*\bsource: *\([a-z][a-z0-9-]*\).*/\1/p' $(file))))
# VQA v2 has a server, which wants the answers to test2015 in a file.
has_server = $(filter vqav2,$(call source,$(1)))

TRAIN = $(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench train
EVALUATE = $(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench evaluate
PREDICT = $(PYTHON) -m accelerate.commands.launch $(LAUNCH) -m vle_bench predict

define write_server_file
	test -f $(1)/vqa_test.json || \
	$(PREDICT) $(1) --split test --output $(1)/vqa_test.json
endef

# Name missing inputs at once, without loading torch; then train, write the server's file and add the record to the tables.
define finetune
	@$(PYTHON) -m vle_bench.recipe.preflight $(call recipe,$(1)) $(ARGS)
	$(TRAIN) $(call recipe,$(1)) $(ARGS)
	$(if $(call has_server,$(1)),$(call write_server_file,$(call run,$(1))))
	$(PYTHON) -m vle_bench table --if-new --add $(call run,$(1))
endef

# Join the two runs of VCR, and add Q2AR to the tables.
define q2ar
	$(PYTHON) -m vle_bench evaluate runs/$(1)-q2a --with runs/$(1)-qa2r
	$(PYTHON) -m vle_bench table --if-new --add runs/$(1)-q2a/results/vcr_q2ar.val.json
endef

finetune: $(INSTALLED)  ## fine-tune any recipe: RECIPE=vqa/vle-base, or a file of your own
	$(if $(RECIPE),,$(error RECIPE is missing: make finetune RECIPE=vqa/vle-base))
	$(call finetune,$(RECIPE))

vqa-base: $(INSTALLED)  ## fine-tune VLE-base on VQA v2, score minival, write the server's file
	$(call finetune,vqa/vle-base)

vqa-large: $(INSTALLED)  ## fine-tune VLE-large on VQA v2, score minival, write the server's file
	$(call finetune,vqa/vle-large)

meter-vqa: $(INSTALLED)  ## fine-tune METER-base on VQA v2, score minival, write the server's file
	$(call finetune,vqa/meter-base)

meter-vqa-all: $(INSTALLED)  ## METER's published run: all of train and val, last checkpoint, the server's file
	$(call finetune,vqa/meter-base-all)

vilt-vqa: $(INSTALLED)  ## fine-tune ViLT on VQA v2, score minival, write the server's file
	$(call finetune,vqa/vilt)

vcr-q2a-base: $(INSTALLED)  ## fine-tune VLE-base on VCR, question to answer
	$(call finetune,vcr/vle-base-q2a)

vcr-qa2r-base: $(INSTALLED)  ## fine-tune VLE-base on VCR, question and answer to rationale
	$(call finetune,vcr/vle-base-qa2r)

vcr-joint-base: $(INSTALLED)  ## fine-tune VLE-base on both VCR tasks at once
	$(call finetune,vcr/vle-base-joint)

vcr-q2a-large: $(INSTALLED)  ## fine-tune VLE-large on VCR, question to answer
	$(call finetune,vcr/vle-large-q2a)

vcr-qa2r-large: $(INSTALLED)  ## fine-tune VLE-large on VCR, question and answer to rationale
	$(call finetune,vcr/vle-large-qa2r)

meter-vcr-q2a: $(INSTALLED)  ## fine-tune METER-base on VCR, question to answer
	$(call finetune,vcr/meter-base-q2a)

meter-vcr-qa2r: $(INSTALLED)  ## fine-tune METER-base on VCR, question and answer to rationale
	$(call finetune,vcr/meter-base-qa2r)

vcr-base: vcr-q2a-base vcr-qa2r-base  ## fine-tune VLE-base on both VCR tasks, and join them: Q2AR
	$(call q2ar,vle-base-vcr)

vcr-large: vcr-q2a-large vcr-qa2r-large  ## fine-tune VLE-large on both VCR tasks, and join them: Q2AR
	$(call q2ar,vle-large-vcr)

meter-vcr: meter-vcr-q2a meter-vcr-qa2r  ## fine-tune METER-base on both VCR tasks, and join them: Q2AR
	$(call q2ar,meter-base-vcr)

# Name missing inputs at once; then pre-train. Nothing is published to compare with, so that no table is rendered.
define pretrain
	@$(PYTHON) -m vle_bench.recipe.preflight $(call recipe,pretrain/$(1)) $(ARGS)
	$(TRAIN) $(call recipe,pretrain/$(1)) $(ARGS)
endef

pretrain-base: $(INSTALLED)  ## pre-train VLE-base with all four objectives from DeBERTa and CLIP
	$(call pretrain,vle-base)

pretrain-large: $(INSTALLED)  ## pre-train VLE-large with all four objectives from DeBERTa and CLIP
	$(call pretrain,vle-large)

pretrain-meter: $(INSTALLED)  ## pre-train METER-base with masked words and matching from RoBERTa and CLIP
	$(call pretrain,meter-base)

define need_data
	@test -f data/$(1)/manifest.json || \
	{ echo "data/$(1): no prepared data there: docs/$(2).md says how to make them" >&2; exit 2; }
endef

# RESIZE=crop|squash|published-vcr scores a published checkpoint with pictures made another way than its folder says, into a record
# named after it; one that is there is kept. A wrong word is refused before anything is fetched.
ways = $(if $(filter-out $(1),$(RESIZE)),$(error RESIZE=$(RESIZE): it is none of $(1)))
define score
	$(if $(RESIZE),test -f results/$(1)/$(2).$(3).$(RESIZE).json || \
	)$(EVALUATE) checkpoints/$(1) --data $(4) --split $(3) --trained-on $(5) --published $(6)$(if $(RESIZE), --resize $(RESIZE) \
	--output results/$(1)/$(2).$(3).$(RESIZE).json)
endef

# Score a published checkpoint on minival and val, write the server's file, print the published figures. Both splits were trained
# on (VLE: train and val but for 1,000 unknown images, `write_vqa.py`; METER: all of both, its issue 11), so the scores are high
# and never ranked. Compare the server's score of the file with the published one.
server_file = results/$(1)/vqa_test$(if $(RESIZE),.$(RESIZE)).json
define score-vqa
	$(call ways,crop squash)
	$(call need_data,vqav2,vqa)
	$(2)
	$(call score,$(1),vqa,minival,data/vqav2,train+val,$(3))
	$(call score,$(1),vqa,val,data/vqav2,train+val,$(3))
	test -f $(call server_file,$(1)) || \
	$(PREDICT) checkpoints/$(1) --data data/vqav2 --split test$(if $(RESIZE), --resize $(RESIZE)) --output $(call server_file,$(1))
	@echo "What the server answers: vle-bench evaluate checkpoints/$(1) --data data/vqav2 --split test-dev \
	--server-result FILE --trained-on train+val --published $(3)$(if $(RESIZE), --resize $(RESIZE) \
	--output results/$(1)/vqa.test-dev.$(RESIZE).json)"
endef

# Trained on train alone (VLE README); its figures are of val.
vcr_file = results/$(1)-for-vcr-$(if $(filter qa2r,$(2)),qa2r,q2a)/vcr_$(2).val.$(RESIZE).json
define score-vcr
	$(call ways,crop squash published-vcr)
	$(call need_data,vcr,vcr)
	$(call fetch,$(1)-for-vcr-q2a)
	$(call fetch,$(1)-for-vcr-qa2r)
	$(call score,$(1)-for-vcr-q2a,vcr_q2a,val,data/vcr,train,$(2))
	$(call score,$(1)-for-vcr-qa2r,vcr_qa2r,val,data/vcr,train,$(2))
	$(if $(RESIZE),test -f $(call vcr_file,$(1),q2ar) || $(PYTHON) -m vle_bench evaluate $(call vcr_file,$(1),q2a) \
	--with $(call vcr_file,$(1),qa2r) --output $(call vcr_file,$(1),q2ar),$(PYTHON) -m vle_bench evaluate \
	checkpoints/$(1)-for-vcr-q2a --with checkpoints/$(1)-for-vcr-qa2r) --data data/vcr --split val --published $(2)
endef

HF = $(PYTHON) -m huggingface_hub.cli.hf
fetch = $(HF) download hfl/$(1) --local-dir checkpoints/$(1)

score-vle-vqa-base: $(INSTALLED)  ## score the published VLE-base for VQA v2 beside its published figure
	$(call score-vqa,vle-base-for-vqa,$(call fetch,vle-base-for-vqa),VLE-base)

score-vle-vqa-large: $(INSTALLED)  ## score the published VLE-large for VQA v2 beside its published figure
	$(call score-vqa,vle-large-for-vqa,$(call fetch,vle-large-for-vqa),VLE-large)

score-vilt-vqa: $(INSTALLED)  ## score the published ViLT for VQA v2 beside its published figure
	$(if $(RESIZE),$(error RESIZE: ViLT keeps the shape of a picture))
	$(call score-vqa,$(VILT),$(HF) download dandelin/$(VILT) --local-dir checkpoints/$(VILT),ViLT)

VILT := vilt-b32-finetuned-vqa

score-vle-vcr-base: $(INSTALLED)  ## score the two published VLE-base for VCR beside their published figures, and join them
	$(call score-vcr,vle-base,VLE-base)

score-vle-vcr-large: $(INSTALLED)  ## score the two published VLE-large for VCR beside their published figures, and join them
	$(call score-vcr,vle-large,VLE-large)

score-meter-vqa: checkpoints/meter-base-for-vqa/config.json  ## convert METER's fine-tuned VQA checkpoint, score it beside its figure
	$(call score-vqa,meter-base-for-vqa,,METER-base)

METER := checkpoints/meter-base-for-vqa
METER_URL := https://github.com/zdou0830/METER/releases/download/checkpoint/meter_clip16_288_roberta_vqa.ckpt

# METER's checkpoint does not hold its answers: their order is that of their first occurrence in the official annotations.
$(METER)/config.json: | $(INSTALLED)
	$(call need_data,vqav2,vqa)
	test -f $(METER).ckpt || { curl --fail --location --create-dirs --output $(METER).ckpt.partial $(METER_URL) && \
	mv $(METER).ckpt.partial $(METER).ckpt; }
	$(HF) download FacebookAI/roberta-base --local-dir checkpoints/roberta-base
	$(PYTHON) -m vle_bench convert $(METER).ckpt --tokenizer checkpoints/roberta-base --answers data/vqav2-official --output $(METER)

.PHONY: pretrain-base pretrain-large pretrain-meter
.PHONY: score-vilt-vqa score-vle-vqa-base score-vle-vqa-large score-vle-vcr-base score-vle-vcr-large score-meter-vqa
.PHONY: finetune vqa-base vqa-large vilt-vqa meter-vqa meter-vqa-all vcr-base vcr-q2a-base vcr-qa2r-base vcr-joint-base \
	vcr-large vcr-q2a-large vcr-qa2r-large meter-vcr meter-vcr-q2a meter-vcr-qa2r
