# Everything starts here; `make` alone lists the targets.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export DAGSTER_HOME := $(CURDIR)/.dagster
export DAGSTER_DISABLE_TELEMETRY := yes
ifdef PROFILE # a name in profiles/, or a file: make run PROFILE=pocket-3
export ARENA_PROFILE := $(or $(wildcard $(PROFILE)),$(wildcard profiles/$(PROFILE).yaml),$(error PROFILE=$(PROFILE): no such file, and none in profiles/))
endif

.PHONY: help setup run test test-fast coverage drills dev lint types code-versions format bench bench-text bench-dtype bench-training bench-ratings bench-curation manifest clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## make .venv from the pinned lock

$(READY): requirements/cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --no-deps -r requirements/cpu.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(DAGSTER_HOME)/dagster.yaml: dagster.yaml
	mkdir -p $(DAGSTER_HOME)
	cp dagster.yaml $@

run: setup manifest ## turn the wheel through every round of the profile (PROFILE=pocket-3: another), a leaderboard after each
	@$(BIN)/arena doctor
	$(BIN)/arena run

dev: setup manifest ## the Dagster UI on http://127.0.0.1:3000
	$(BIN)/dagster dev --host 127.0.0.1

test: lint manifest ## lint and all tests
	$(BIN)/pytest

test-fast: setup manifest ## in a minute: the tests without models, dbt, Dagster's runs and browsers
	$(BIN)/pytest -m "not drill and not slow"

coverage: setup manifest ## all tests, a fourth slower, and what they never run
	$(BIN)/pytest --cov

drills: setup manifest ## slow tests: killed runs, real models for minutes
	$(BIN)/pytest -m drill

bench: setup manifest ## measure: load time of the code location, active sampling
	$(BIN)/python benchmarks/load_time.py
	$(BIN)/python benchmarks/sampling.py

bench-text: setup manifest ## measure: the responses asset beside bare vLLM, the LLM judge batched and one call at a time
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/judging.py

bench-dtype: setup manifest ## measure: float32 and bfloat16 side by side, generation and training
	$(BIN)/python benchmarks/number_types.py

bench-training: setup manifest ## measure: SFT and GRPO beside bare TRL scripts on the same data, by turns
	$(BIN)/python benchmarks/training.py

bench-ratings: setup .venv-arena-rank ## measure: ratings of 1M battles beside arena-rank and evalica, then 10M
	$(BIN)/python benchmarks/ratings.py
	$(BIN)/python benchmarks/ratings.py 10000000

bench-curation: setup ## measure: curation of 69K, 138K and 276K prompts, MinHash beside datasketch (needs PROMPTS)
	$(BIN)/pip install --quiet --no-deps datasketch==2.0.0
	$(BIN)/python benchmarks/curation.py $(PROMPTS)
	$(BIN)/python benchmarks/words.py $(PROMPTS)

.venv-arena-rank: # it pins other versions of our dependencies
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet arena-rank==0.1.1 pyarrow

manifest: setup $(DAGSTER_HOME)/dagster.yaml # what Dagster knows of the dbt models; in seconds, without a network
	@$(BIN)/python -c "from arena_assets.assets.dbt_project import parsed_project; parsed_project()"

lint: setup ## check style, the arrows between rooms, what is declared, types and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry arena_assets
	$(BIN)/sqlfluff lint --quiet dbt_project/models
	$(BIN)/mypy

types: setup ## check types
	$(BIN)/mypy

code-versions: setup ## record that what tables and answers get from their code is as it should be
	$(BIN)/python -m arena_assets.lake.code_digests

format: setup ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the lake, the instance and build leftovers (weights stay in data/models)
	rm -rf data/lake data/quality .dagster dbt_project/target dbt_project/logs logs .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .coverage*
