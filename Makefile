# Two commands on a fresh Debian machine with Python 3.11 and a C++ compiler:
#   make demo   installs melt and measures this machine: a Transformer against two state-space models
#   make test   installs what the tests need, system packages included, and runs them
# Both say what they do, and are safe to repeat. PYTHON=python3.12 picks another interpreter.
#   make test-long [PART=fuzz] [SEED=7]   what takes hours, in parts (docs/testing.md)

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

# The gate, stage by stage; how long each took is printed at its end, compiling and testing apart.
STAGES := system-packages install-dev lint types runners tests-parallel tests-timing tests-doubles
# More than the two cores of a small machine: many tests wait for a device or a clock.
WORKERS ?= 3

.PHONY: demo test test-long install install-dev locks lint types runners runners-long go-ios clean
.PHONY: system-packages system-packages-doubles tests-parallel tests-timing tests-doubles tests-of-doubles

demo: install
	@echo "== Measuring this machine (plans/demo.yaml); the same command resumes where it was stopped"
	$(BIN)/melt run plans/demo.yaml --results $(DEMO_RESULTS) --out $(DEMO_REPORT)
	@echo "== The report: $(abspath $(DEMO_REPORT))/index.html"

test:
	@set -e; took=; for stage in $(STAGES); do \
		began=$$(date +%s); $(MAKE) --no-print-directory $$stage; \
		took="$$took$$(printf '%6d s  %s' $$(($$(date +%s) - began)) $$stage)\n"; \
	done; printf "== The gate is passed:\n$$took"

test-long: system-packages-doubles install-dev runners runners-long go-ios
	$(BIN)/python -m tests.long $(if $(PART),--part $(PART)) $(if $(SEED),--seed $(SEED))

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@echo "== Making a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

# Nothing runs that has no hash in locks/: first what packages are built with, then with it all others, melt last.
LOCKED := $(PIP) install --quiet --require-hashes
# Of llama-cpp-python is built what melt loads, which is less than half.
$(VENV)/.installed: export CMAKE_ARGS := -DCMAKE_PROJECT_llama_cpp_INCLUDE='$(CURDIR)/llama-cpp-python.cmake' $(CMAKE_ARGS)
$(VENV)/.installed: pyproject.toml locks/builders.txt locks/local.txt llama-cpp-python.cmake | $(BIN)/python
	@echo "== Installing melt and its engines; llama.cpp is compiled the first time, some three minutes on two cores"
	$(LOCKED) -r locks/builders.txt
	$(LOCKED) --no-build-isolation -r locks/local.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed locks/dev.txt
	@echo "== Installing what the tests need"
	$(LOCKED) --no-build-isolation -r locks/dev.txt
	@touch $@

# From pyproject.toml, for every platform; pins that still fit stay. UPGRADE=--upgrade takes the newest of all.
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate \
	--custom-compile-command "make locks" $(UPGRADE) pyproject.toml
EXTRAS_OF_TESTS := local npu-qnn adb ssh ios build dev
locks: install-dev
	@echo "== Writing locks/"
	@$(LOCK) $(addprefix --extra ,$(EXTRAS_OF_TESTS)) --group builders --output-file locks/dev.txt
	@$(LOCK) --extra local --constraint locks/dev.txt --output-file locks/local.txt
	@$(LOCK) --constraint locks/dev.txt --output-file locks/melt.txt
	@$(filter-out pyproject.toml,$(LOCK)) --group builders --constraint locks/dev.txt --output-file locks/builders.txt

system-packages:
	@tests/system-packages

system-packages-doubles: system-packages
	@tests/system-packages doubles

lint:
	@echo "== Linting"
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types:
	@echo "== Checking types"
	$(BIN)/mypy

# Beforehand, so that no test has to wait for a compiler: one of each kind that the tests use (the Arm one is that of a
# Pixel 8). Kept: built again only where something changed.
RUNNERS := host linux-x86_64-musl linux-aarch64-musl-i8mm
runners:
	@echo "== Building the native runner for $(RUNNERS); some four minutes each the first time"
	@for target in $(RUNNERS); do MELT_CACHE=$(CURDIR)/.test-cache $(BIN)/melt runner build $$target || exit 1; done
	@$(BIN)/python -m tests.doubles.paced.build

# What only the long tests use.
runners-long:
	@echo "== Building the native runner as a device does, and a stock llama-bench"
	@MELT_CACHE=$(CURDIR)/.test-cache $(BIN)/melt runner build on-device --device local --gpu none
	@$(BIN)/python -m tests.doubles.llama_bench.archive

# A client of another maker's, for the simulated iPhone.
GO_IOS := 1.2.0
go-ios: .test-cache/go-ios/$(GO_IOS)
.test-cache/go-ios/$(GO_IOS):
	@echo "== Fetching go-ios $(GO_IOS) from npm"
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix .test-cache/go-ios go-ios@$(GO_IOS)
	@touch $@

tests-parallel:
	@echo "== Running the tests, $(WORKERS) at a time"
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --durations 40 -m "not timing"

tests-timing:
	@echo "== Running the tests that need a quiet machine, one at a time"
	$(BIN)/pytest -q --durations 10 -m timing

tests-doubles:
	@$(BIN)/python -m tests.doubles.tested || $(MAKE) --no-print-directory tests-of-doubles

tests-of-doubles: system-packages-doubles go-ios
	@echo "== Running the tests of the tests' doubles, which have changed"
	$(BIN)/pytest -q --durations 10 -m doubles
	@$(BIN)/python -m tests.doubles.tested --write

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .test-cache
