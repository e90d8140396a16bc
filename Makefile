# Everything the project needs, it installs into .venv from hashed locks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
BENCH_READY := $(BENCH)/.ready
FUZZ := .venv-fuzz
FUZZ_READY := $(FUZZ)/.ready
PCLUSTER := .venv-pcluster
PCLUSTER_READY := $(PCLUSTER)/.ready
CLUSTER := .venv-cluster
CLUSTER_READY := $(CLUSTER)/.ready
# Databases do not run as root, and another user may not reach a Python below root's home.
CLUSTER_PYTHON := $(firstword $(wildcard /usr/bin/python3) $(PYTHON))
PACKAGE := .venv-package
PACKAGE_READY := $(PACKAGE)/.ready

# Where it is set, each of the hundreds of processes of `make test` compiles the program again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo cluster failover test browser chromium pictures unit check types fmt hooks bench bench-ingest bench-stream bench-query bench-webhooks bench-pages crash crash-backup crash-index crash-webhooks attack faults fuzz package lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(READY) ## Make the virtual environment

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "deploylog needs Python 3.11 or newer; $(PYTHON) is older (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## Apply a real Terraform configuration and follow it (ONCE=1 exits after that)
	$(BIN)/python demo/demo.py $(if $(ONCE),--once)

$(PCLUSTER_READY): requirements/pcluster.txt
	$(PYTHON) -m venv $(PCLUSTER)
	$(PCLUSTER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/pcluster.txt
	@touch $@

$(CLUSTER_READY): requirements/cluster.txt
	$(CLUSTER_PYTHON) -m venv $(CLUSTER)
	$(CLUSTER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/cluster.txt
	@touch $@

cluster: $(READY) $(CLUSTER_READY) ## Run etcd, two PostgreSQL nodes under Patroni and three API processes here
	$(BIN)/python -m demo.cluster $(ARGS)

failover: $(READY) $(CLUSTER_READY) ## Kill the primary of such a cluster under load (ARGS=--node, --asynchronous)
	$(BIN)/python -m demo.failover $(ARGS)

# Two more than processors: while tests of some wait for a process or a page, those of others compute.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

# Where the tests keep their files: in memory if 4 GiB are free there, as each store waits for the disk at
# each commit. No test is about a loss of power.
ROOM := $(shell [ -w /dev/shm ] && df -Pk /dev/shm | awk 'NR == 2 && $$4 > 4194304 { print "/dev/shm" }')

# Not by its own name, which would run the tests in a dry run, too.
SELF := $(MAKE)

# The other checks run beside the tests; what they say comes after, and either's failure counts.
test: $(READY) $(PCLUSTER_READY) browser ## Run every check: format, lint, types, tests
	@said=$$(mktemp); $(SELF) --no-print-directory check >$$said 2>&1 & checking=$$!; \
	$(if $(ROOM),PYTEST_DEBUG_TEMPROOT=$(ROOM)) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal; tested=$$?; \
	wait $$checking; checked=$$?; cat $$said; rm -f $$said; exit $$((tested || checked))

# Installs a package, if this is Debian and we are root.
APT_INSTALL := [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends --no-remove

# Without its windows Chromium opens a tab in a quarter of the time. With them it will do.
browser: ## Install Chromium for the tests of the pages, if it is not there (Debian, as root)
	@command -v chromium-headless-shell >/dev/null \
	  || { $(APT_INSTALL) chromium-headless-shell >/dev/null; } \
	  || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { echo "the tests of the pages need Chromium; on Debian: apt-get install chromium-headless-shell"; exit 1; }

chromium: ## Install the whole of Chromium, whose frames are those that people see (Debian, as root)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { $(APT_INSTALL) chromium >/dev/null; } \
	  || { echo "needs Chromium; on Debian: apt-get install chromium"; exit 1; }

pictures: $(READY) browser ## Take the pictures of the documentation again
	DEPLOYLOG_TAKE_PICTURES=1 $(BIN)/python -m pytest tests/e2e/ui/test_pictures.py

unit: $(READY) ## Run the unit tests only: seconds, without files, processes or Terraform
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/e2e -m unit --hypothesis-profile unit

check: types ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY) ## Check the types of the code (strictly) and of the tests
	$(BIN)/python -m mypy

hooks: $(READY) ## Run format, lint and types before each commit (needs pre-commit)
	pre-commit install

fmt: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BENCH_READY): requirements/bench.txt pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

bench: $(BENCH_READY) ## Measure everything beside every peer (ARGS="--only p5 --rounds 5 --events 1000000")
	PYTHONPATH=src $(BENCH)/bin/python -m bench.all $(ARGS)

bench-ingest: $(READY) ## Measure appends, beside a raw SQLite insert of the same rows
	$(BIN)/python -m bench.ingest

bench-stream: $(READY) ## Measure streams to 1,000 readers, beside nginx nchan
	$(BIN)/python -m bench.stream

bench-query: $(READY) ## Measure queries over 1,000,000 events
	$(BIN)/python -m bench.query

bench-webhooks: $(READY) ## Measure deliveries, beside a bare aiohttp loop and Alertmanager
	$(BIN)/python -m bench.webhooks

bench-pages: $(READY) chromium ## Measure frames while 20,000 events scroll and 2,000 resources zoom
	$(BIN)/python -m bench.browser

crash: $(READY) ## Kill the service 20 times while it records, and look for what is missing
	$(BIN)/python -m bench.crash

crash-backup: $(READY) ## Kill the service 20 times beside each program that opens its store
	$(BIN)/python -m bench.crashbackup

crash-index: $(READY) ## Kill a writer 20 times while it seals the index, and look for what is missing
	$(BIN)/python -m bench.crashindex

lock: ## Resolve the locked versions anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --extra server pyproject.toml -o requirements/deploylog.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --extra postgres pyproject.toml -c requirements/deploylog.txt -o requirements/postgres.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --extra server --group dev pyproject.toml -c requirements/deploylog.txt -o requirements/dev.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --extra server --group bench pyproject.toml -c requirements/dev.txt -o requirements/bench.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --group build -c requirements/dev.txt -o requirements/build.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --group package -c requirements/dev.txt -o requirements/package.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --group pcluster -o requirements/pcluster.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --group cluster -c requirements/dev.txt -o requirements/cluster.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --quiet --group fuzz -o requirements/fuzz.txt

$(PACKAGE_READY): requirements/package.txt
	$(PYTHON) -m venv $(PACKAGE)
	$(PACKAGE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/package.txt
	@touch $@

package: $(READY) $(PACKAGE_READY) ## Build the wheel and the sdist, and try them and the Helm chart in fresh environments
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(PACKAGE)/bin/python -m pytest -q -c /dev/null -p no:cacheprovider packaging

crash-webhooks: $(READY) ## Kill the service 20 times while it delivers, and look for what is missing
	$(BIN)/python -m bench.crashhooks

faults: $(READY) $(CLUSTER_READY) $(PCLUSTER_READY) ## Break everything, suite by suite, and check what is promised (ARGS="--prove")
	$(BIN)/python -m faults.all $(ARGS)

$(FUZZ_READY): requirements/fuzz.txt
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(READY) $(FUZZ_READY) ## Send every API and every parser what nobody meant (ARGS="--examples 1000")
	$(BIN)/python -m faults.fuzz $(ARGS)

attack: $(READY) ## Attack the service beside a client that behaves well, and measure what that one sees
	$(BIN)/python -m bench.attack

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) $(BENCH) $(PCLUSTER) $(CLUSTER) $(PACKAGE) $(FUZZ) .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis
