# Two commands for a newcomer: `make demo` and `make test`. Each sets up everything it needs in .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
INSTALL := test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq

# Tests start hundreds of Python processes. Without compiled modules on disk, each would compile the package again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-full test-oldest pytest chaos audit pythons check migration comparison dist distributions test-compiled compiler bench bench-chart fleet screenshots pictures docs docs-serve docs-check diagrams clean servers redis-server postgresql pgbouncer nginx chromium prometheus valgrind uwsgi mod_wsgi axe-core

# make demo ONCE=1 ends by itself, with exit status 0 only if every promise held.
# Limits are in a file, which keeps what was used over a restart; WORKERS=4 serves from four processes that share it.
# BACKEND=host:///path/to/file is another one, BACKEND=redis or postgres starts a server for the demo, BACKEND=redis://host uses yours.
demo: $(READY) $(if $(filter redis,$(BACKEND)),redis-server) $(if $(filter postgres,$(BACKEND)),postgresql)
	$(BIN)/python examples/demo.py $(if $(ONCE),--once) $(if $(BACKEND),--backend '$(BACKEND)') $(if $(WORKERS),--workers $(WORKERS))

# Files of tests are in memory where there is room for them: on a disk, each commit of SQLite waits for it.
SHM := $(shell test "$$(df -P /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 2000000 2>/dev/null && echo /dev/shm)

SELECT := -m 'not full'

# The distributions, and all tests on a compiled wheel. See docs/compiled.md, and "Release" in CONTRIBUTING.md.
dist: distributions
	$(MAKE) --no-print-directory test-compiled

# The sdist, a pure wheel, a compiled wheel for each Python that pyproject.toml names, and the bill of materials, each tried
# in fresh environments. A Python that is not found is named and left out; it is an error in CI, and with COMPLETE=1.
distributions: .venv-dist/.ready compiler
	.venv-dist/bin/python -m tools.release dist $(if $(CI)$(COMPLETE),--complete)

# All tests that `make test` runs, on the wheel of `make distributions` that pip chooses for this Python: the compiled one.
# SELECT= adds those of `make test-full`.
test-compiled: export TMPDIR := $(or $(TMPDIR),$(SHM),/tmp)
test-compiled: .venv-compiled/.ready servers uwsgi axe-core $(if $(SELECT),,mod_wsgi)
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall --no-index --find-links dist awx-ratelimit
	.venv-compiled/bin/python -c 'import awx_ratelimit.runtime.compiled as form; assert form.IS_COMPILED, form.__file__'
	.venv-compiled/bin/python -m pytest --numprocesses auto $(SELECT)

.venv-compiled/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-compiled
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[all]' --group dev --group compiled
	@touch $@

.venv-dist/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	.venv-dist/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dist
	@touch $@

# Debian's packages, installed where we may, named where we may not.
compiler:
	@command -v cc >/dev/null || { $(INSTALL) gcc libc6-dev python3-dev; } || { echo "A C compiler and Python's headers are needed: install Debian's packages gcc, libc6-dev and python3-dev" >&2; exit 1; }

# Static checks and tests run side by side. Each test runs on the servers and databases on which its code differs.
test: $(READY) servers uwsgi axe-core
	$(MAKE) --no-print-directory --jobs 2 check pytest

# Every test on every server and database and eight times the random histories, then the long storms and audits.
test-full: $(READY) servers uwsgi axe-core mod_wsgi
	AWX_EXAMPLES=8 $(MAKE) --no-print-directory --jobs 2 check pytest SELECT=
	$(MAKE) --no-print-directory pythons test-oldest chaos audit

pytest: export TMPDIR := $(or $(TMPDIR),$(SHM),/tmp)
pytest:
	$(BIN)/python -m pytest --numprocesses auto $(SELECT)

# The tests that need no web server, on the other versions of Python. A version without an interpreter is named and left out.
PYTHONS := 3.12 3.13 3.14

pythons: $(PYTHONS:%=python-%)

python-%: export TMPDIR := $(or $(TMPDIR),$(SHM),/tmp)
python-%: redis-server
	@program=$$(sh tools/find_python.sh $*); \
	if test -z "$$program"; then echo "python$* was not found: no tests ran on it"; exit; fi; \
	echo "Tests on $$program"; $(MAKE) --no-print-directory .venv-$*/.ready INTERPRETER=$$program && .venv-$*/bin/python -m pytest --numprocesses auto -m 'not full' \
		tests/core tests/http tests/limiter tests/contract tests/property tests/adapters

# The tests of Redis with the oldest redis-py that pyproject.toml allows.
OLDEST := redis==$(shell sed -n 's/^redis = \["redis>=\([0-9.]*\)".*/\1/p' pyproject.toml)

test-oldest: export TMPDIR := $(or $(TMPDIR),$(SHM),/tmp)
test-oldest: .venv-oldest/.ready redis-server
	.venv-oldest/bin/python -m pytest --numprocesses auto -m 'not full' tests/backends/redis tests/contract/test_*redis*.py tests/integration/test_*redis*.py tests/testing/test_fake_redis.py

# It is installed alone: some peers in the group dev need a newer one, and these tests use none of them.
.venv-oldest/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]' --group dev
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps '$(OLDEST)'
	@touch $@

.venv-%/.ready: pyproject.toml constraints.txt
	$(INTERPRETER) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

# Real servers that tests start for themselves, and cachegrind, which counts instructions: Debian's packages, installed where we may, named where we may not.
servers: redis-server postgresql pgbouncer nginx chromium prometheus valgrind

pgbouncer nginx:
	@command -v $@ >/dev/null || test -x /usr/sbin/$@ || { $(INSTALL) $@; } || { echo "$@ is needed for the tests: install Debian's package of that name" >&2; exit 1; }

# It runs in Debian's Python: its tests are skipped if .venv has another version.
mod_wsgi:
	@test -e /usr/lib/apache2/modules/$@.so || { $(INSTALL) apache2 libapache2-mod-wsgi-py3; } || { echo "$@ is needed for the tests: install Debian's packages apache2 and libapache2-mod-wsgi-py3" >&2; exit 1; }

# The headless shell takes half the processor time of the whole browser, which serves as well.
chromium:
	@command -v chromium-headless-shell >/dev/null || { $(INSTALL) chromium-headless-shell; } 2>/dev/null || command -v chromium >/dev/null || { echo "Chromium is needed for the tests: install Debian's package chromium-headless-shell" >&2; exit 1; }

redis-server prometheus valgrind:
	@command -v $@ >/dev/null || { $(INSTALL) $@; } || { echo "$@ is needed: install Debian's package of that name" >&2; exit 1; }

postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { $(INSTALL) $@; } || { echo "PostgreSQL's server is needed for the tests: install Debian's package $@" >&2; exit 1; }

# uWSGI is compiled from source, which needs a C compiler and Python's headers.
uwsgi: $(BIN)/uwsgi

$(BIN)/uwsgi: $(READY) | compiler
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group compiled

# The storms of the tests at their real length, with their figures; `make test` has seconds of each. KEEP=1 puts the figures into docs/reliability.md.
chaos: $(READY) redis-server postgresql pgbouncer
	AWX_CHAOS_SECONDS=60 AWX_CHAOS_TABLE=$(if $(KEEP),docs/reliability.md) $(BIN)/python -m pytest tests/chaos tests/servers/test_management.py::test_schemathesis_finds_nothing

# Ten whole audits of an honest gateway, up to eight at once; `make test` has one.
audit: $(READY)
	AWX_AUDITS=10 $(BIN)/python -m pytest tests/loadtest/test_gateways.py -k 'honest_gateway' --timeout 1200

# axe looks for what shuts people out of a page: the one package that comes from npm, pinned here.
AXE := 4.14.1

axe-core: .node/axe-core-$(AXE)

.node/axe-core-$(AXE):
	@command -v npm >/dev/null || { $(INSTALL) npm; } || { echo "npm is needed for the tests: install Debian's package of that name" >&2; exit 1; }
	@mkdir -p .node
	npm install --prefix .node --silent --no-save --no-package-lock --ignore-scripts --no-audit --no-fund axe-core@$(AXE)
	@touch $@

# A picture of each page of the console, for docs/console.md.
screenshots: $(READY) chromium
	$(BIN)/python -m tests.browser.screenshots docs/console

# Pictures of real runs for docs/images: the demo in a terminal, its traffic in Prometheus, and the report of the load tester. Takes five minutes.
pictures: $(READY) chromium prometheus
	$(BIN)/python -m tests.browser.pictures docs/images

# The documentation site: static files in site/, which work offline and under any path. A broken link, a missing anchor or
# an unlisted page is an error. docs-serve shows it while you write, at ADDRESS=localhost:8000; docs-check only builds it, as a test does.
docs: $(READY)
	$(BIN)/python -m tools.docs_site build

docs-serve: $(READY)
	$(BIN)/python -m tools.docs_site serve $(ADDRESS)

docs-check: $(READY)
	$(BIN)/python -m tools.docs_site check

# The diagrams of docs/images/, from tools/diagrams.py.
diagrams: $(READY)
	$(BIN)/python tools/diagrams.py

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/python tools/generate_sync.py --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The code and the measured tables of docs/migration.
migration: $(READY)
	$(BIN)/python tools/migration.py

# The tables of docs/comparison.md: tries all libraries, and takes the figures from the last `make bench`.
comparison: $(READY)
	$(BIN)/python tools/comparison.py

# Ratios beside the peers, in an environment of their own; results in benchmarks/results/.
bench: SHELL := bash
bench: .SHELLFLAGS := -o pipefail -c
bench: .venv-bench/.ready redis-server postgresql valgrind
	.venv-bench/bin/python -m pytest benchmarks --override-ini python_files='bench_*.py' --override-ini python_functions='bench_*' \
		--override-ini filterwarnings=default --override-ini timeout=600 --benchmark-json .venv-bench/result.json --benchmark-columns min,median,rounds --benchmark-max-time 3 --quiet
	.venv-bench/bin/python -m benchmarks.report .venv-bench/result.json benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_instructions | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.chart
	.venv-bench/bin/python -m benchmarks.bench_memory | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_host | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_keys | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_loadtest | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_servers | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_redis | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_postgres | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_postgres_bloat | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python -m benchmarks.bench_outages 2>/dev/null | tee -a benchmarks/results/measured.md
	.venv-bench/bin/python tools/comparison.py speed

# The chart of docs/hot-path.md, from the last counts of `make bench`.
bench-chart: $(READY)
	$(BIN)/python -m benchmarks.chart

# A fleet of processes in a simulation: measures what claims cost here, compares it with real runs, and writes docs/capacity.md.
# Other programs must not be busy. It waits for that for PATIENCE seconds.
PATIENCE := 600

fleet: $(READY) redis-server postgresql
	$(BIN)/python -m benchmarks.fleet calibrate validate capacity $(PATIENCE)

# wrk is Debian's package: installed where we may, named where we may not.
.venv-bench/.ready: benchmarks/peers/requirements.txt benchmarks/peers/constraints.txt pyproject.toml
	@command -v wrk >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq wrk; } || { echo "wrk is needed: install Debian's package of that name" >&2; exit 1; }
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' benchmarks/peers/constraints.txt)"
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --constraint benchmarks/peers/constraints.txt --requirement benchmarks/peers/requirements.txt --editable '.[all]'
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]' --group dev
	@touch $(READY)

clean:
	rm -rf .venv .venv-* .node .site site dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
