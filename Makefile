# Requires python3 (3.11 or newer) and make. All other tools are installed into .venv from the lock files.
PYTHON ?= python3
BIN    := .venv/bin
PIP     = $(BIN)/python -m pip --quiet --disable-pip-version-check
# `ip` and `nft` are in sbin, which the PATH of an ordinary user may not include.
export PATH := $(PATH):/usr/sbin:/sbin:$(CURDIR)/.venv/mbedtls:$(CURDIR)/.venv/tunnels:$(CURDIR)/.venv/node:$(CURDIR)/.venv/coapthon:$(CURDIR)/.venv/load
# A virtual environment cannot be moved. The stamps contain a checksum of the path, so a copied folder rebuilds its own.
HERE    := $(firstword $(shell pwd | cksum))
MADE    := .venv/.made-$(HERE)
RUNTIME := .venv/.runtime-$(HERE)
DEV     := .venv/.dev-$(HERE)
FOREIGN := .venv/.foreign-$(HERE)
MBEDTLS := .venv/mbedtls/mbedtls-ecjpake
TUNNELS := $(foreach library,gnutls mbedtls wolfssl jsse pion,.venv/tunnels/$(library)-tunnel)
COAPTHON := .venv/coapthon/coapthon
LOAD    := .venv/load/coap-load
# One test process more than cores, since many tests wait for a timer or for another process.
WORKERS ?= $(shell expr $$(nproc) + 1)

.PHONY: help demo test check docs bench soak interop lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(RUNTIME)  ## pair a device and a client on this machine, in one minute
	@$(BIN)/handfast demo

test: $(DEV)  ## run all tests with branch coverage; warnings are errors
	@.ci/tools
	@$(MAKE) --no-print-directory -j2 $(FOREIGN) $(MBEDTLS) $(TUNNELS) $(COAPTHON) $(LOAD)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered

# Tests that only read the source. `make check` runs them too, so that they fail before a whole run does.
RULES := tests/docs/test_security.py tests/test_limits.py tests/test_private_access.py \
	tests/docs/test_howto.py::test_each_link_on_a_page_resolves

check: $(DEV)  ## check style, types, import contracts and the rules of the project
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q -p no:cacheprovider $(RULES)

docs: $(DEV)  ## generate the reference pages, and the Python API as HTML in build/docs
	$(BIN)/python docs/generate.py

# `make bench BENCH="get start"` runs these groups, BENCH=help lists them, and BASE=FOLDER compares with another checkout.
BENCH ?=
bench: $(DEV)  ## measure handfast beside other CoAP stacks (10 minutes), and write docs/performance.md
	@.ci/tools bench
	@$(MAKE) --no-print-directory $(FOREIGN) $(LOAD)
	$(if $(filter arm,$(BENCH)),@.ci/tools arm && tests/bench/arm/build .venv/arm requirements.lock)
	$(BIN)/python -m tests.bench $(if $(filter help,$(BENCH)),--help,$(or $(BENCH),--docs)) $(if $(BASE),--base $(BASE))
	$(if $(BENCH),,$(BIN)/python -m pytest -q -m "bench and not soak" tests/bench)

soak: $(DEV)  ## send 200,000 requests on one session and check each answer and the memory (minutes)
	$(BIN)/python -m pytest -q -s -m soak tests/bench

interop: $(DEV) .venv/node/npm-coap  ## run the foreign programs whose toolchains CI does not install
	$(BIN)/python -m pytest -q -m toolchain tests/interop

# Run this with the oldest supported Python: it requires the most backports, and newer versions ignore them.
lock: $(DEV)  ## pin the newest allowed versions in requirements*.lock
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra scan --extra test --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --extra foreign --constraint requirements-dev.lock --output-file requirements-foreign.lock pyproject.toml

COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --no-strip-extras --generate-hashes \
	--allow-unsafe --build-deps-for editable --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

clean:  ## remove everything that make created
	rm -rf .venv build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "handfast needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing)." >&2; \
	  echo "Install one and pass its name: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@.ci/tools venv $(PYTHON)
	$(PYTHON) -m venv --clear .venv
	@touch $@

$(RUNTIME): $(MADE) requirements.lock pyproject.toml
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# DTLSSocket must be compiled (.ci/tools installs the compiler). If that fails, the summary names the tests left out.
$(FOREIGN): $(DEV) requirements-foreign.lock
	@if $(PIP) install --require-hashes --no-build-isolation -r requirements-foreign.lock >.venv/foreign.log 2>&1; \
	then touch $@; \
	else echo "make: DTLSSocket could not be built (see .venv/foreign.log): its tests are left out" >&2; fi

# Debian's Mbed TLS lacks ECJPAKE (see the script). If it cannot be built, its tests are left out in the same way.
$(MBEDTLS): tests/interop/mbedtls/build tests/interop/mbedtls/ecjpake.c | $(MADE)
	@tests/interop/mbedtls/build .venv/mbedtls >.venv/mbedtls.log 2>&1 || \
	  echo "make: Mbed TLS's ECJPAKE could not be built (see .venv/mbedtls.log): its tests are left out" >&2

# DTLS clients on other libraries. If one cannot be built, its tests are left out in the same way.
.venv/tunnels/%-tunnel: tests/interop/tunnels/build $(wildcard tests/interop/tunnels/*.*) | $(MADE)
	@tests/interop/tunnels/build .venv/tunnels $* >.venv/$*-tunnel.log 2>&1 || \
	  echo "make: the DTLS client on $* could not be built (see .venv/$*-tunnel.log): its tests are left out" >&2

# CoAP clients of PyPI, and of npm for `make interop`, handled in the same way.
$(COAPTHON): $(wildcard tests/interop/coapthon/*) | $(MADE)
	@tests/interop/coapthon/build .venv/coapthon $(BIN)/python >.venv/coapthon.log 2>&1 || \
	  echo "make: CoAPthon3 could not be installed (see .venv/coapthon.log): its tests are left out" >&2

# The load generator of the measurements, handled in the same way.
$(LOAD): $(wildcard tests/bench/load/*) | $(MADE)
	@tests/bench/load/build .venv/load >.venv/load.log 2>&1 || \
	  echo "make: the load generator could not be built (see .venv/load.log): its tests are left out" >&2

.venv/node/npm-coap: $(wildcard tests/interop/node/*) | $(MADE)
	@tests/interop/node/build .venv/node >.venv/npm-coap.log 2>&1 || \
	  echo "make: npm's CoAP client could not be installed (see .venv/npm-coap.log): its tests are left out" >&2
