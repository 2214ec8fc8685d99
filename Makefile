# Everything a person or CI does with this folder. `make` alone says what there is.

# The first of these that is Python 3.11 or newer; another with `make run PYTHON=/path/to/python`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
# Stamps: each says which requirements file was installed last.
RUNS := $(VENV)/installed
TESTS := $(VENV)/installed-for-tests
# The peers that Convo is measured beside have an environment of their own, for the sake of their pins.
PEERS := $(VENV)/peers

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run dev test check lint mutants soak bench bench-growth bench-beside endurance clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: $(RUNS) .env ## Serve Convo on http://127.0.0.1:8000/ (PORT=9000 for another port)
	@$(MANAGE) migrate --verbosity 0
	@exec $(MANAGE) serve

dev: $(TESTS) .env ## Serve it with PostgreSQL, Valkey and a Celery worker, all started here
	@exec $(MANAGE) dev

test: $(TESTS) ## Run all tests on SQLite and PostgreSQL side by side (ONLY=tests/test_turns.py for some)
	$(BIN)/python -m tests.both $(ONLY)

check: lint ## Run lint, the limits on style, and the tests without databases and servers
	$(BIN)/python -m tests.style
	$(BIN)/python -m pytest -q --unit

# Checked as production runs it, whatever .env says.
lint: export CONVO_DOTENV := 0
lint: export DEBUG := 0
lint: export SECRET_KEY := only-for-the-checks-of-make-lint-0123456789-abcdefghij
lint: export DATABASE_URL :=
lint: $(TESTS) ## Check format, style, types, settings and migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MANAGE) check --deploy --fail-level WARNING
	$(MANAGE) makemigrations --check --dry-run

mutants: $(TESTS) ## Break every promise in turn and see that a test notices (ONLY=text for some)
	$(BIN)/python -m tests.mutants --only "$(ONLY)"

soak: $(TESTS) ## Clients at random while servers are killed (SECONDS=60, SEED=7 to see a run again, STOCK=1)
	$(BIN)/python -m benchmarks soak --seconds "$(or $(SECONDS),60)" $(if $(SEED),--seed "$(SEED)") \
		$(if $(STOCK),--stock-handler)

bench: $(TESTS) $(PEERS)/installed ## Measure Convo beside its peers, for 15 minutes (ONLY=streams for a part)
	$(BIN)/python -m benchmarks bench --only "$(ONLY)"

bench-growth: $(TESTS) ## The same requests among 1 and 10 million messages, for an hour; asks first, unless YES=1
	$(BIN)/python -m benchmarks growth --most "$(or $(MOST),10000000)" $(if $(YES),--yes)

bench-beside: $(TESTS) ## A worker beside a server that takes in 30 turns a second (MINUTES=10)
	$(BIN)/python -m benchmarks beside --minutes "$(or $(MINUTES),10)"

endurance: $(TESTS) ## Mixed load with a worker: does anything grow? (SECONDS=1800, STOCK=1)
	$(BIN)/python -m benchmarks endurance --seconds "$(or $(SECONDS),1800)" $(if $(STOCK),--stock-handler)

clean: ## Remove what was installed and cached here; the data and .env stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis test-artifacts
	find . -name __pycache__ -prune -exec rm -rf {} +

$(RUNS): requirements.txt
	@$(call install,requirements.txt)

$(TESTS): requirements.txt tests/requirements.txt
	@$(call install,tests/requirements.txt)
	@touch $(RUNS)

# Without the peers the tables say that they were not measured.
$(PEERS)/installed: benchmarks/requirements.txt | $(TESTS)
	@echo "Installing $< into $(PEERS), once …"
	@{ test -x $(PEERS)/bin/pip || $(BIN)/python -m venv $(PEERS); } && \
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ || \
	echo "The peers could not be installed, so their figures will be missing." >&2

define install
test -n "$(PYTHON)" || { echo "Convo needs Python 3.11 or newer, and there is none on your PATH." >&2; exit 1; }; \
echo "Installing $(1) into $(VENV), once …"; \
test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) && \
$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(1) && touch $@
endef

.env:
	@umask 077 && { echo DEBUG=1; $(BIN)/python -c 'import secrets; print("SECRET_KEY=" + secrets.token_urlsafe(50))'; } > $@
	@echo "Wrote .env: DEBUG=1 and a random SECRET_KEY, for you alone (mode 600, ignored by git)."
