# demo and test set up everything by themselves: a virtual environment in .venv, with pip and pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread a process: nodes run side by side, one process a core.
export OMP_NUM_THREADS ?= 1
export FLWR_TELEMETRY_ENABLED := 0

.PHONY: demo test check bench soak long fuzz mutants experiments format clean

demo: $(VENV)/.node
	$(BIN)/tacit demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python experiments/ledger/run.py
	$(BIN)/python experiments/ledger/verify.py
	$(BIN)/python experiments/audit_page/run.py
	$(BIN)/python experiments/secure_sum/run.py
	$(BIN)/python experiments/secure_sum/run.py --scale
	$(BIN)/python experiments/secure_sum/dropouts.py
	$(BIN)/python experiments/secure_sum/whole_run.py
	$(BIN)/python experiments/suites/run.py
	$(BIN)/python experiments/private_step/run.py
	$(BIN)/python experiments/edge/run.py
	$(BIN)/python experiments/deployment/engine.py
	$(BIN)/python experiments/deployment/run.py
	$(BIN)/python experiments/load/run.py

# The long forms of what `make test` does shortly: ten thousand kills in mid-round and as many of writers, a hundred
# thousand power cuts, a million hostile inputs, ten thousand simulated federations (from TACIT_FIRST_SEED on) and as
# many with hostile parties in them, a coordinator that is gone at every moment, every bit of a bundle, six members in
# network namespaces (as root), examples that nobody drew before, and each of the field's demands taken out of a copy of
# the code. Of quiet cores' time, the kills take about a quarter of an hour, the power cuts five minutes, the inputs ten
# to fifteen.
soak: $(VENV)/.dev
	TACIT_KILLS=10000 TACIT_IMAGES=100000 TACIT_LONG=1 $(BIN)/python -m pytest -x tests/faults tests/contract/test_verifiers.py tests/deployed tests/compliance
	$(BIN)/python -m pytest -x -n 2 --hypothesis-profile search tests/property tests/unit
	TACIT_SEEDS=10000 TACIT_MUTANTS=1000000 $(BIN)/python -m pytest -x -v -n 2 tests/simulation tests/hostile
	TACIT_HOSTILE_SEEDS=10000 $(BIN)/python -m pytest -x -v -n 2 tests/hostile_parties
	$(BIN)/python experiments/gradient_inversion/run.py
	$(BIN)/python experiments/privacy_audit/run.py --quick

# An hour of runs with nodes that are killed and hang; then: which changes of the code the tests miss (hours).
long: $(VENV)/.dev
	PYTHONPATH=.:tests $(BIN)/python tests/faults/long_run.py build/long --minutes 60

# Hostile bytes led by what they reach, a minute for each decoder (about forty minutes).
fuzz: $(VENV)/.dev
	$(PIP) -e '.[node,dev,fuzz]'
	PYTHONPATH=.:tests $(BIN)/python -m hostile.guided --seconds 60

mutants: $(VENV)/.dev
	$(PIP) -e '.[node,dev,mutants]'
	$(BIN)/python experiments/mutants/run.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "tacit needs Python 3.11 or 3.12: run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.node: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing (about two minutes, once) ..."
	$(PIP) -e '.[node]'
	@touch $@

$(VENV)/.dev: $(VENV)/.node
	$(PIP) -e '.[node,dev]'
	@touch $@
