# The one door to the project: `make help` lists what it does and how long each takes on two cores.
#
# Everything runs in .venv, made from the hash-locked files in requirements/. `demo` and `run` install only what a server
# needs; the test tools come with the first target that wants them. Stamp files in .venv make the second time free.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
SMOKE := build/smoke

CORE := $(VENV)/.core-installed
PACKAGE := $(VENV)/.package-installed
DEV := $(VENV)/.dev-installed

# -qq leaves only errors: what pip warns of is about the machine's own set-up and not about this project.
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-input --require-hashes
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

PYTEST := $(BIN)/python -m pytest
PYTEST_ARGS ?=
TIER ?= P

.PHONY: help demo run check test bless crash e2e bench docs build lock

help: ## this list
	@echo "usage: make TARGET [PYTHON=python3.12]      (times: two cores, .venv already there; the first time adds 10-20 s)"
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

demo: $(PACKAGE) ## each dialect answers its own system's documented example, no key and no network (under 10 s)
	@$(BIN)/dragoman demo

run: $(PACKAGE) ## serve on http://127.0.0.1:8080 until Ctrl-C (ready in 1 s)
	@$(BIN)/dragoman serve

check: $(DEV) ## format, lint, types, import arrows, house rules (15 s)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/basedpyright --level error
	$(PYTEST) -q tests/test_tidy.py tests/test_packaging.py $(PYTEST_ARGS)

test: $(DEV) ## every test that can run here; says which were skipped and why (1 min)
	$(PYTEST) -n 2 -rs $(PYTEST_ARGS)

bless: $(DEV) ## rewrite the golden transcripts from what the dialects say now: review the diff (10 s)
	DRAGOMAN_BLESS=1 $(PYTEST) -q tests/dialects $(PYTEST_ARGS)

crash: $(DEV) ## kill, freeze and cut off servers, and count what was lost (4 min; TIER=N: nightly, 60 min)
	@$(BIN)/python -m tests.crash --tier $(TIER)

e2e: $(DEV) ## a real server, the clients people use, proxies, deaf readers, a stop in the midst of it (100 s)
	DRAGOMAN_CLIENTS=install $(PYTEST) -rs tests/e2e $(PYTEST_ARGS)

bench: $(DEV) ## speed and size against a bare relay on this machine (4 min)
	@$(BIN)/python -m bench

docs: $(DEV) ## links resolve, decisions are indexed, pages and their snippets run (1 min)
	$(PYTEST) -q tests/docs $(PYTEST_ARGS)

build: $(PACKAGE) ## make the wheel, install it into an empty environment, ask it something there, weigh it (20 s)
	@rm -rf dist $(SMOKE)
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 315532800) \
	  $(BIN)/python -m pip wheel -qq --no-deps --no-build-isolation -w dist .
	@$(PYTHON) -m venv --without-pip $(SMOKE)
	@$(BIN)/python -m pip --python $(SMOKE)/bin/python install -qq --no-input --require-hashes -r requirements/core.txt
	@$(BIN)/python -m pip --python $(SMOKE)/bin/python install -qq --no-input --no-deps --no-index dist/*.whl
	@cd $(SMOKE) && env -u PYTHONPATH bin/dragoman version
	@cd $(SMOKE) && env -u PYTHONPATH bin/dragoman --home home ask "What can you do?"
	@cd $(SMOKE) && bin/python -c 'import os, sysconfig, importlib.metadata as m; \
	  top = sysconfig.get_path("purelib"); \
	  size = sum(os.lstat(os.path.join(d, f)).st_size for d, _, fs in os.walk(top) for f in fs); \
	  print(f"installed: {size / 1e6:.1f} MB in {len(list(m.distributions()))} distributions (budget: 60 MB, 25)")'
	@ls -1 dist

lock: ## resolve requirements/*.txt anew from pyproject.toml; needs uv (10 s)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: install it, or name it: make lock UV=/path/to/uv" >&2; exit 1; }
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements/core.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --group build -o requirements/build.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml --extra postgres --extra redis --extra mcp --group dev --group build -c requirements/core.txt \
	  -o requirements/dev.txt
	@sed -i.bak '/^ *#/d' requirements/core.txt requirements/build.txt requirements/dev.txt
	@rm -f requirements/*.bak

# -- what the targets stand on ---------------------------------------------------------------------------------------

# An environment whose Python went away is made anew, and its stamps must not outlive it.
ifneq ($(shell test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null && echo ok),ok)
$(shell rm -f $(CORE) $(PACKAGE) $(DEV) $(BIN)/python)
endif

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null \
	  || { echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Dragoman needs Python 3.11 or newer, and $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) \
	  || { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(CORE): requirements/core.txt requirements/build.txt $(BIN)/python
	@echo "installing what a server needs"
	@$(PIP_INSTALL) -r requirements/core.txt -r requirements/build.txt
	@touch $@

$(PACKAGE): pyproject.toml $(CORE)
	@$(BIN)/python -m pip install -qq --no-input --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements/dev.txt $(PACKAGE)
	@echo "installing the test tools"
	@$(PIP_INSTALL) -r requirements/dev.txt
	@touch $@
