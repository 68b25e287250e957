# make run, make test, make check, make bench: each does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
CHECK_ENV := XDG_STATE_HOME=$(CURDIR)/.check-state RELAY_URL=https://relay.example.com

.PHONY: run test check bench clean

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Relay Web needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

run: $(VENV)/.ready
	@exec $(BIN)/python manage.py relay --port $(PORT) $(if $(COMMIT_RELAY_HOME)$(CORTEX_HOME),,--demo)

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@mkdir -p .check-state
	$(CHECK_ENV) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(CHECK_ENV) $(BIN)/python manage.py makemigrations --check --dry-run

test: check
	$(BIN)/python -m pytest -n 2 --dist loadscope

bench: $(VENV)/.ready
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .check-state *.egg-info
