# Everything starts here; `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
# Optional: an index with another build of torch, such as the CPU one; see the README
TORCH_INDEX ?=
# Optional: files of presets/ without their ending, as in PRESET="camvid picie"; later ones win
PRESET ?=
# For `make baselines`: seeds of pre-training and training, an absolute path of images, some of the baselines, and
# whether to start over
SEEDS ?= 0
DATA ?=
ONLY ?=
FORCE ?=
# For `make bench`: some of its parts
PART ?=
# `dvc exp run -S` leaves its settings in params.yaml, where the next run would take them up
KEEP_PARAMS = kept=$$(mktemp) && cp params.yaml $$kept && \
	trap 'cp $$kept params.yaml; rm -f $$kept' EXIT && trap 'exit 130' INT && trap 'exit 143' TERM

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# DVC and its helpers need none of the user's site-packages
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
.PHONY: help env repro baselines bench test faults fuzz kill-matrix soak graph check format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(READY) ## make the environment in .venv

$(READY): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --upgrade pip -c constraints.txt
	$(if $(TORCH_INDEX),python -m pip install --quiet -c constraints.txt --index-url $(TORCH_INDEX) torch torchvision)
	python -m pip install --quiet -c constraints.txt --editable '.[dev]'
	touch $(READY)

repro: env ## run the whole graph; PRESET=tiny applies presets/tiny.yaml for this run
	$(if $(PRESET),$(KEEP_PARAMS) && flags=$$(fs4 preset $(PRESET)) && dvc exp run $$flags,dvc repro)
	@echo
	@dvc metrics show
	@echo "Report: $(CURDIR)/data/report/index.html"

baselines: env ## run all baselines; DATA=/path PRESET=camvid SEEDS="0 1 2" ONLY="picie fs4" FORCE=1
	@fs4 baselines --seeds "$(SEEDS)" $(if $(DATA),--data "$(DATA)") $(if $(PRESET),--preset "$(PRESET)") \
		$(if $(ONLY),--only "$(ONLY)") $(if $(FORCE),--force)

bench: env ## time every stage against its arithmetic; PART="extraction shards"
	@python -m benchmarks $(foreach part,$(PART),--part $(part))

test: env ## run all tests but those of faults
	python -m pytest --ignore=tests/faults --ignore=tests/fuzz

faults: env ## inject every fault of docs/faults.md, and try 10 000 damaged files
	python -m pytest tests/faults tests/fuzz

fuzz: env ## try 200 000 damaged files, other ones each time
	FS4_FUZZ_CASES=200000 FS4_FUZZ_SUMMARY=docs/faults/fuzz.json python -m pytest tests/fuzz
	python -m tests.faults.table

kill-matrix: env ## kill 60 runs at random moments, and repeat them
	python -m tests.faults.kill_matrix --kills 60 --out docs/faults/kill-matrix.json
	python -m tests.faults.table

soak: env ## train and evaluate 200 times in one process
	python -m tests.faults.soak --cycles 200 --out docs/faults/soak.json
	python -m tests.faults.table

graph: env ## renew the lists of code in dvc.yaml after imports have changed
	python -m tests.graph.write_graph

check: env ## format, lint and type check
	ruff format --check .
	ruff check .
	mypy

format: env ## mend what the formatter and the linter can mend
	ruff format .
	ruff check --fix .

clean: env ## remove resume state and live curves of unfinished runs, and kept features
	fs4 clean
