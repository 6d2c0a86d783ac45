# `make help` lists the targets. They work in the active virtual environment, else in .venv, which
# `make install` makes; another one is given as ENV=DIR.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
ENV ?= $(or $(VIRTUAL_ENV),.venv)
PY := $(ENV)/bin/python
INSTALLED := $(ENV)/.meddiff-installed

DEMO_DATA ?= data/isic-phantom
DEMO_RUNS ?= runs/demo
DEMO_IMAGES ?= 200
DEMO_STEPS ?= 300

SCALE ?= cpu_demo
SEEDS ?= 3
TABLE = $(PY) -m lightning_app table configs/table/$(@:table-%=%).yaml --scale $(SCALE) \
  --seeds $(SEEDS) $(if $(DATA),--data $(DATA)) $(if $(JOBS),--jobs $(JOBS)) $(if $(OUT),--out $(OUT)) \
  $(if $(FROM),--from $(FROM))

.PHONY: help install demo test test-slow test-slurm check format bench table-hybrid table-lmi

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## Install everything, development tools too (needs Python >= 3.11)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(ENV)
	$(PY) -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install ## Phantom skin images, a short training, masks for the test images (minutes, no GPU)
	$(PY) -m lightning_app phantom isic --root $(DEMO_DATA) --num $(DEMO_IMAGES) --seed 0
	$(PY) -m lightning_app fit --config configs/hybrid_isic.yaml \
	  --config configs/hardware/cpu_demo.yaml --data.init_args.root $(DEMO_DATA) \
	  --run_root $(DEMO_RUNS) --trainer.max_steps $(DEMO_STEPS) \
	  --trainer.val_check_interval 100 --samples.every_n_steps 100 --last.every_n_steps 100
	fitted=$$(ls -d $(DEMO_RUNS)/hybrid_isic/*/ | tail -n 1); \
	$(PY) -m lightning_app predict --ckpt_path $$fitted; \
	predicted=$$(ls -d $(DEMO_RUNS)/hybrid_isic/*/ | tail -n 1); \
	printf '\nWhat came out:\n'; \
	printf '  %-42s %s\n' \
	  "samples drawn with their masks" "$${fitted}samples/" \
	  "loss and Jaccard index by step" "$${fitted}metrics.csv" \
	  "masks of the phantom's test images" "$${predicted}predictions/"

test: install ## Run the tests, but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m 'not slow'

test-slow: install ## Run the slow tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m slow

test-slurm: install ## Time limits, preemption, requeues and scancel on a real SLURM (as root; half an hour)
	@command -v munged slurmctld slurmd >/dev/null || { echo "needs SLURM and munge: apt-get install slurm-wlm munge"; exit 1; }
	$(PY) -m pytest -m slurm tests/slurm

check: install ## Lint, format, imports and types, changing nothing
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(ENV)/bin/lint-imports
	$(ENV)/bin/mypy

format: install ## Format, and mend what the linter can
	$(ENV)/bin/ruff check --fix .
	$(ENV)/bin/ruff format .

bench: install ## Our training step against a plain loop, and LMI against its direct form
	$(PY) benchmarks/train_step.py --method hybrid
	$(PY) benchmarks/lmi.py

table-hybrid: install ## The table of hybrid diffusion: SCALE=cpu_demo|cpu|h100|none DATA= SEEDS= JOBS= OUT= FROM=
	$(TABLE) $(ARGS)

table-lmi: install ## The table of LMIDiffusion: likewise
	$(TABLE) $(ARGS)
