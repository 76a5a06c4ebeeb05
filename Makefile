# The front door: `make help`.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check format lock audit clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[learn,dev]"
	@touch $@

install: $(VENV)/installed ## Make .venv and install kellgren into it

demo: install ## Run the whole study on synthetic knees; ends with results/phantom/study/report.html
	$(BIN)/kellgren run studies/phantom.toml

test: install ## Run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: install ## Format, lint, types and floors, as pre-commit does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install ## Write requirements.lock, with the hash of every file that pip takes here
	$(BIN)/python .ci/lock

audit: install ## Ask for known vulnerabilities of the pinned packages
	$(BIN)/python .ci/audit

clean: ## Remove the environment and all results
	rm -rf $(VENV) results build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
