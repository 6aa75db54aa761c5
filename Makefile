# Two commands: `make repro` rebuilds everything from raw video, `make test` does that and runs the tests.
SHELL := /bin/bash
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help repro test bench torture audit image check-image lint lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

.venv/.installed: requirements.lock cuda.lock
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

.venv/.tested: test.lock .venv/.installed
	python -m pip install --quiet --disable-pip-version-check --requirement test.lock
	touch $@

repro: .venv/.installed ## Install the pins and rebuild every result
	dvc repro
	python -m avs table

test: repro .venv/.tested ## Rebuild every result and run the tests
	python -m pytest

bench: .venv/.tested ## Time every step beside its alternative on this machine, and draw README's chart (docs/scaling.md)
	python -m benchmarks.speed
	python -m avs verify --write

torture: .venv/.tested ## Kills, hostile files, lacks and long use, for hours; goes on where it stopped (docs/reliability.md)
	python -m tests.reliability
	python -m avs verify --write

audit: ## Ask a database of known vulnerabilities about the locks (needs the network; docs/licences.md)
	$(PYTHON) -m venv .audit && .audit/bin/python -m pip install --quiet pip-audit
	.audit/bin/pip-audit --no-deps --disable-pip -r requirements.lock -r cuda.lock -r test.lock

image: ## Build the container's image, avs:cpu (docs/containers.md)
	AVS_REVISION=$$(git rev-parse HEAD) docker compose --file docker/compose.yaml build cpu

check-image: .venv/.installed ## Build and prove the image, with an engine of its own where none runs
	@if docker info >/dev/null 2>&1; then docker/check.sh; else docker/engine.sh docker/check.sh; fi; \
	status=$$?; if [ $$status = 77 ]; then echo "SKIPPED: the container was not checked"; else exit $$status; fi

lint: .venv/.installed ## Style and types
	ruff check .
	ruff format --check .
	mypy

CUDA := ^(nvidia-[cn]|cuda-|triton=)
TESTS := ^($(shell sed -n 's/==.*//p' test.lock | paste -sd '|'))==

lock: ## Write requirements.lock, and cuda.lock where PyTorch's CUDA build is installed, from .venv; test.lock by hand
	{ echo "--constraint cuda.lock"; python -m pip freeze | grep -vE '$(CUDA)|$(TESTS)' | sed -E 's/\+(cpu|cu[0-9]+)$$//; s/^(ve-fairseq|torchaudio)==.*/& ; platform_machine == "x86_64" and sys_platform == "linux"/'; } > requirements.lock
	if python -m pip freeze | grep -qE '$(CUDA)'; then { head -n 1 cuda.lock; python -m pip freeze | grep -E '$(CUDA)'; } > partial.lock && mv partial.lock cuda.lock; fi

clean: ## Remove what can be rebuilt; the item store and DVC's cache stay
	rm -rf data/install data/media data/eventness data/cache data/muse data/mixtures models results/*/per_clip.jsonl
