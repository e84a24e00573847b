# gentext. Every target starts from nothing but python3 (3.11 to 3.13), pip, make and git, says what it does,
# and on a second run does only what has changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
HTML := _build/html
PORT ?= 8000
SERVE ?= 1
CHAPTERS := $(wildcard book/[0-9][0-9]-*.ipynb)
SEED ?= 0
OUT ?= grades.csv
ASSIGNMENTS := _build/assignments
HANDOUTS := $(wildcard assignments/*/student/*.ipynb)
LIVE := book/vendor/_static/live
say = @printf '\033[1m==> %s\033[0m\n'

export PYTHONUNBUFFERED := 1
# Threads that wait give their core away. By default they spin, and beside other work two of them take 60 times as long.
export OMP_WAIT_POLICY := PASSIVE

.NOTPARALLEL:
.PHONY: help book serve test check unit notebooks pages run train assignments grade colab colab-dry-run bench lock browser clean

help:
	@echo "make book                 build the book and serve it on localhost (SERVE=0: build only)"
	@echo "make test                 everything: lint, types, tests, chapters, pages in a browser, Colab's packages"
	@echo "make check                lint, types and unit tests, in under three minutes"
	@echo "make run [CHAPTERS=...]   execute chapters from a clean kernel and store their outputs"
	@echo "make train RECIPE=...     train one model of the zoo and put it into the package"
	@echo "make assignments          student notebooks, Gradescope zips, hidden tests (SEED=7: another variant)"
	@echo "make grade FOLDER=... ASSIGNMENT=...   grade a folder of submissions into grades.csv"
	@echo "make colab                run every chapter on Colab's package versions"
	@echo "make bench                speed beside reference implementations, as ratios"
	@echo "make serve                serve the built book"
	@echo "make lock                 compile requirements.txt and requirements-test.txt again"
	@echo "make clean                remove everything that was built (not the trained weights)"

# ---- environment -----------------------------------------------------------------------------------------------

$(BIN)/uv:
	$(say) "creating $(VENV)"
	@[ -n "$(PYTHON)" ] || { echo "gentext needs Python 3.11, 3.12 or 3.13; none was found. Install one, or: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

define install
	$(say) "installing $(1) (PyTorch makes this a few GB the first time)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r $(1)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
endef

$(VENV)/book.stamp: requirements.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements.txt)
	@touch $@

# The test requirements contain the book's, at the same versions.
$(VENV)/test.stamp: requirements-test.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements-test.txt)
	@touch $@ $(VENV)/book.stamp

lock: | $(BIN)/uv
	$(say) "compiling the locks for Python 3.11 to 3.13 on all platforms"
	@compile="$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make lock'"; \
	eval "$$compile --extra book pyproject.toml -o requirements.txt"; \
	eval "$$compile --extra book --extra test --extra peers --extra grade -c requirements.txt pyproject.toml -o requirements-test.txt"

# ---- the book --------------------------------------------------------------------------------------------------

SOURCES := $(CHAPTERS) _config.yml _toc.yml $(shell find book src/gentext \( -path book/vendor -o -name __pycache__ \) -prune -o -type f -print)

book/vendor/.stamp: package.json package-lock.json book/_ext/vendor.py $(VENV)/book.stamp
	$(say) "fetching the front-end packages (onnxruntime-web, KaTeX, icons)"
	@$(BIN)/python book/_ext/vendor.py
	@touch $@

$(LIVE)/.stamp: book/vendor/.stamp $(shell find src/gentext -name __pycache__ -prune -o -type f -print)
	$(say) "exporting the live figures' networks to ONNX"
	@$(BIN)/gentext export --out $(LIVE)
	@touch $@

$(HTML)/.stamp: $(LIVE)/.stamp $(SOURCES)
	$(say) "building the book; a warning is an error"
	@$(BIN)/jupyter-book build book --config _config.yml --toc "$(CURDIR)/_toc.yml" --path-output . -W --keep-going
	@touch $@

book: $(HTML)/.stamp
ifeq ($(SERVE),1)
	@$(MAKE) --no-print-directory serve
else
	$(say) "the book is in $(HTML); 'make serve' shows it"
endif

serve:
	@[ -f $(HTML)/index.html ] || { echo "There is no book in $(HTML) yet: run 'make book'."; exit 1; }
	$(say) "serving http://127.0.0.1:$(PORT)/ (Ctrl-C stops it; PORT=... changes the port)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML) || [ $$? -eq 130 ]

# ---- tests -----------------------------------------------------------------------------------------------------

NBVAL := TQDM_DISABLE=1 PYTHONWARNINGS=ignore $(BIN)/pytest --nbval --nbval-sanitize-with tests/nbval.cfg
# Two test processes on two cores: one thread each.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

browser:
	@if command -v chromium chromium-browser google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		printf '\033[1m==> installing Chromium for the page tests\033[0m\n'; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else \
		printf '\033[1m==> fetching a browser for the page tests\033[0m\n'; $(BIN)/playwright install chromium; fi

lint: $(VENV)/test.stamp
	$(say) "lint, types, direction of imports"
	@$(BIN)/ruff check src tests scripts benchmarks book/_ext
	@$(BIN)/ruff format --check src tests scripts benchmarks book/_ext
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint
	$(say) "unit tests"
	@$(ONE_THREAD) $(BIN)/pytest -q -n 2 -m "not page and not slow"

unit: $(VENV)/test.stamp browser book/vendor/.stamp
	$(say) "unit, property, parity and fault tests, with coverage"
	@$(ONE_THREAD) $(BIN)/pytest -q -n 2 -m "not page" --cov --cov-fail-under=90 --durations=15

notebooks: $(VENV)/test.stamp
	$(say) "every chapter from a clean kernel, every output compared"
	@$(ONE_THREAD) $(NBVAL) -q -n 2 --dist loadfile --durations=5 $(CHAPTERS)

pages: $(VENV)/test.stamp browser
	@$(MAKE) --no-print-directory book SERVE=0
	$(say) "every page and live figure in Chromium"
	@$(ONE_THREAD) $(BIN)/pytest -q -n 2 --dist loadfile -m "page and not timing" --durations=10
	$(say) "how soon figures answer, with nothing beside them"
	@$(BIN)/pytest -q -m "page and timing"

colab-dry-run: $(VENV)/test.stamp
	$(say) "does installing gentext change any package of Colab's?"
	@$(BIN)/python scripts/colab.py dry-run

test: lint
	@$(MAKE) --no-print-directory colab-dry-run
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory notebooks
	@$(MAKE) --no-print-directory pages

colab: $(VENV)/test.stamp
	$(say) "every chapter and every student's notebook on Colab's package versions"
	@$(BIN)/python scripts/colab.py run $(CHAPTERS) $(HANDOUTS)

# ---- making ----------------------------------------------------------------------------------------------------

run: $(VENV)/test.stamp
	$(say) "executing chapters and storing their outputs"
	@$(BIN)/python scripts/execute.py $(CHAPTERS)

train: $(VENV)/book.stamp
	@[ -n "$(RECIPE)" ] || { echo "Which recipe? make train RECIPE=name, with one of:"; $(BIN)/gentext train --list; exit 1; }
	$(say) "training $(RECIPE)"
	@$(BIN)/gentext train $(RECIPE) --publish

assignments: $(VENV)/test.stamp
	$(say) "making the assignments (variant $(SEED)): student notebooks, Gradescope zips, hidden tests"
	@$(BIN)/python -m gentext.classroom.masters --seed $(SEED) --out $(ASSIGNMENTS) $(ASSIGNMENT)

grade: $(VENV)/test.stamp
	@[ -n "$(FOLDER)" ] && [ -n "$(ASSIGNMENT)" ] || { echo "Which folder, of which assignment? make grade FOLDER=submissions ASSIGNMENT=05"; exit 1; }
	$(say) "grading $(FOLDER)"
	@$(BIN)/gentext grade "$(FOLDER)" --assignment $(ASSIGNMENT) --seed $(SEED) --out "$(OUT)"

bench: $(VENV)/test.stamp
	$(say) "speed beside reference implementations, in one process"
	@for file in benchmarks/[a-z]*.py; do \
		[ $$file = benchmarks/harness.py ] || $(BIN)/python $$file; done

clean:
	$(say) "removing what was built"
	@rm -rf $(VENV) .venv-colab _build book/vendor node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
