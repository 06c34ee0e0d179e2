# Two commands on a fresh Debian machine with Python 3.11 and a C++ compiler:
#   make demo   installs melt and measures this machine: a Transformer against two state-space models
#   make test   installs what the tests need, system packages included, and runs them all
# Both say what they do, and are safe to repeat. PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO_RESULTS ?= results/demo
DEMO_REPORT ?= reports/demo

# llama.cpp's AMX code crashes on some virtual machines whose processor has AMX; without it nothing is lost elsewhere.
HAS_AMX := $(shell grep -qm1 amx_tile /proc/cpuinfo 2>/dev/null && echo yes)
NO_AMX := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
ifeq ($(HAS_AMX),yes)
export CMAKE_ARGS := -DCMAKE_C_FLAGS='$(NO_AMX)' -DCMAKE_CXX_FLAGS='$(NO_AMX)' $(CMAKE_ARGS)
endif

.PHONY: demo test install install-dev system-packages lint types runners go-ios tests clean

demo: install
	@echo "== Measuring this machine (plans/demo.yaml); the same command resumes where it was stopped"
	$(BIN)/melt run plans/demo.yaml --results $(DEMO_RESULTS) --out $(DEMO_REPORT)
	@echo "== The report: $(abspath $(DEMO_REPORT))/index.html"

test: system-packages install-dev lint types runners go-ios tests

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@echo "== Making a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== Installing melt and its engines; llama.cpp is compiled the first time, some five minutes on two cores"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[local]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "== Installing what the tests need"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[local,npu-qnn,adb,ssh,ios,build,dev]'
	@touch $@

system-packages:
	@tests/system-packages

lint:
	@echo "== Linting"
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types:
	@echo "== Checking types"
	$(BIN)/mypy

# Beforehand, so that no test has to wait for a compiler. Kept: built again only where something changed.
RUNNERS := host linux-x86_64-musl linux-aarch64-musl
runners:
	@echo "== Building the native runner for $(RUNNERS) and on-device; some four minutes each the first time"
	@for target in $(RUNNERS) 'on-device --device local --gpu none'; do \
		MELT_CACHE=$(CURDIR)/.test-cache $(BIN)/melt runner build $$target || exit 1; done
	@$(BIN)/python -m tests.doubles.llama_bench.archive

# A client of another maker's, for the simulated iPhone.
GO_IOS := 1.2.0
go-ios: .test-cache/go-ios/$(GO_IOS)
.test-cache/go-ios/$(GO_IOS):
	@echo "== Fetching go-ios $(GO_IOS) from npm"
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix .test-cache/go-ios go-ios@$(GO_IOS)
	@touch $@

tests:
	@echo "== Running the tests"
	$(BIN)/pytest

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .test-cache
