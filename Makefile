# Two commands: `make repro` rebuilds everything from raw video, `make test` does that and runs the tests.
SHELL := /bin/bash
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help repro test lint lock clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/.installed: requirements.lock
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

repro: .venv/.installed ## Install the pins and rebuild every result
	dvc repro
	python -m avs table

test: repro ## Rebuild every result and run the tests
	python -m pytest

lint: .venv/.installed ## Style and types
	ruff check .
	ruff format --check .
	mypy

lock: ## Write requirements.lock from what is installed
	python -m pip freeze | sed -E 's/\+cpu$$//; s/^(ve-fairseq|torchaudio)==.*/& ; platform_machine == "x86_64" and sys_platform == "linux"/' > requirements.lock

clean: ## Remove what can be rebuilt; the item store and DVC's cache stay
	rm -rf data/install data/media data/eventness data/cache results/*/per_clip.jsonl
