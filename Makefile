# The commands of this repository. `make` alone lists them.
# Everything goes into .venv in the checkout: nothing is installed elsewhere, and nothing needs root.

.DEFAULT_GOAL := help
.PHONY: help setup serve test check format bench bench-all bench-page compose-check lock clean

BIN := .venv/bin
REQUIREMENTS := requirements/requirements.txt
# The first of these that is new enough makes .venv; `make setup PYTHON=...` names another.
PYTHON := python3 python3.13 python3.12 python3.11
# More words for pytest: make test PYTEST_ARGS="-k lifecycle"
PYTEST_ARGS :=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

help: ## list these commands
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "make %-14s %s\n", $$1, $$2 }'

# .venv/setup-stamp holds what .venv was made from: where, and the content of these two files. When it still says
# the same and the interpreter still runs, there is nothing to do. It is written last, so a broken-off setup runs again.
setup: ## make .venv with everything in it (quick when nothing changed)
	@set -eu; \
	stamp="$$(printf '%s\n' "$(CURDIR)"; cat $(REQUIREMENTS) pyproject.toml | cksum)"; \
	made_from="$$(cat .venv/setup-stamp 2>/dev/null || true)"; \
	usable=no; \
	if [ "$$(printf '%s\n' "$$made_from" | head -n 1)" = "$(CURDIR)" ] && $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then usable=yes; fi; \
	if [ "$$usable" = yes ] && [ "$$made_from" = "$$stamp" ] && [ -x $(BIN)/bestex ]; then exit 0; fi; \
	if [ -e .venv ] && [ ! -w .venv ]; then \
		echo "make setup: .venv belongs to another user and needs an update. Run this as its owner, or remove .venv." >&2; \
		exit 1; \
	fi; \
	if [ ! -e .venv ] && [ ! -w . ]; then \
		echo "make setup: .venv cannot be made, because this user cannot write to $(CURDIR)." >&2; exit 1; \
	fi; \
	if [ "$$usable" = no ]; then $(find_python); rm -f .venv/setup-stamp; "$$python" -m venv --clear .venv; fi; \
	echo "make setup: installing $(REQUIREMENTS) into .venv"; \
	rm -f .venv/setup-stamp; \
	$(BIN)/python -m pip install --quiet --require-hashes -r $(REQUIREMENTS); \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	printf '%s\n' "$$stamp" > .venv/setup-stamp

# Sets $python, or says what every candidate lacks. A candidate is run, not only looked up: version managers leave
# commands behind that cannot run.
define find_python
python=; lacking=; \
	for candidate in $(PYTHON); do \
		if ! command -v "$$candidate" >/dev/null 2>&1; then lack="not found"; \
		elif ! version="$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"; \
		then lack="does not run"; \
		elif ! "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; \
		then lack="is Python $$version"; \
		elif ! "$$candidate" -c 'import venv, ensurepip' 2>/dev/null; \
		then lack="has no venv or ensurepip (on Debian and Ubuntu: the package python$$version-venv)"; \
		else python="$$candidate"; break; fi; \
		lacking="$$lacking\n  $$candidate: $$lack"; \
	done; \
	if [ -z "$$python" ]; then \
		printf "%b\n" "make setup: bestex needs Python 3.11 or newer, with its modules venv and ensurepip.$$lacking" >&2; \
		echo "Install one of them, or name one: make setup PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi
endef

serve: setup ## run the engine until Ctrl-C or SIGTERM
	@exec $(BIN)/bestex serve

test: setup ## everything CI runs: the checks, then all tests
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

check: setup ## lint, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: bench-throughput ## completed orders a second, beside the Node.js peer

# BENCH_QUICK=1 make bench-all is a short pass, to see that all of it works.
bench-all: setup ## every benchmark, and the page of results
	@exec $(BIN)/python -m bench

bench-page: setup ## the page of results and its charts anew, from the last runs
	@exec $(BIN)/python -m bench.page

# throughput, latency, punctuality, watchers, resting, recovery, growth, memory. Options: ARGS="--rounds 1"
bench-%: setup ## one of them by its name; its options in ARGS
	@exec $(BIN)/python -m bench.$* $(ARGS)

compose-check: setup ## whether compose.yaml is sound: its schema, our rules, docker compose
	@exec $(BIN)/python -m deploy.check_compose

# uv comes into an environment of its own, for this one command. No index is written down: each machine uses its own.
lock: setup ## choose new versions for requirements/requirements.txt
	@set -eu; \
	tools="$$(mktemp -d)"; trap 'rm -rf "$$tools"' EXIT; \
	$(BIN)/python -m venv "$$tools"; "$$tools/bin/python" -m pip install --quiet uv; \
	"$$tools/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		pyproject.toml requirements/dev.in --output-file $(REQUIREMENTS)

clean: ## remove .venv, caches and builds
	rm -rf .venv build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
