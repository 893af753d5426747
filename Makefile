# Requires python3 (3.11 or newer) and make. All other tools are installed into .venv from the lock files.
PYTHON ?= python3
BIN    := .venv/bin
PIP     = $(BIN)/python -m pip --quiet --disable-pip-version-check
# `ip` and `nft` are in sbin, which the PATH of an ordinary user may not include.
export PATH := $(PATH):/usr/sbin:/sbin:$(CURDIR)/.venv/mbedtls:$(CURDIR)/.venv/tunnels:$(CURDIR)/.venv/node:$(CURDIR)/.venv/coapthon:$(CURDIR)/.venv/load:$(CURDIR)/.venv/arm
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
ARM     := .venv/arm/arm-python
# One test process more than cores, since many tests wait for a timer or for another process.
WORKERS ?= $(shell expr $$(nproc) + 1)
# How often a failed test is repeated; the summary names each that passes then.
REPEATS ?= 0

.PHONY: help demo demo-remote test check docs deb deb-test board bench soak interop lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(RUNTIME)  ## pair a device and a client on this machine, in one minute
	@$(BIN)/handfast demo

demo-remote: $(DEV)  ## reach a device behind other routers: pair, move away, ssh through a tunnel (root)
	@.ci/tools remote
	@$(BIN)/python -m tests.system.remote.tour

test: $(DEV)  ## run all tests with branch coverage; warnings are errors
	@.ci/tools
	@$(MAKE) --no-print-directory -j2 $(FOREIGN) $(MBEDTLS) $(TUNNELS) $(COAPTHON) $(LOAD)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --reruns $(REPEATS) --cov --cov-report=term-missing:skip-covered

# Tests that only read the source. `make check` runs them too, so that they fail before a whole run does.
RULES := tests/docs/test_security.py tests/test_limits.py tests/test_private_access.py \
	tests/test_import_graph.py tests/docs/test_words.py \
	tests/test_import_contracts.py::test_each_module_of_remote_either_has_io_or_takes_time_as_an_argument \
	tests/docs/test_protocol.py::test_the_documented_limits_equal_those_of_the_code \
	tests/docs/test_howto.py::test_each_link_on_a_page_resolves

check: $(DEV)  ## check style, types, import contracts and the rules of the project
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q -p no:cacheprovider $(RULES)

docs: $(DEV)  ## generate the reference pages, and the Python API as HTML in build/docs
	$(BIN)/python docs/generate.py

# `make deb ARCHES=arm64 SUITES=trixie` builds for these only.
ARCHES ?= amd64 arm64
SUITES ?= bookworm trixie
deb: $(DEV)  ## build the Debian packages handfast and handfast-device in build/deb
	$(foreach suite,$(SUITES),$(foreach arch,$(ARCHES),$(BIN)/python packaging/deb/build.py $(arch) $(suite) &&)) true

deb-test: $(DEV)  ## install the Debian packages in a new system, and import those for ARM (minutes)
	@.ci/tools
	@.ci/tools arm
	@$(MAKE) --no-print-directory $(ARM)
	$(BIN)/python -m pytest -q -m "deb or not booted" tests/packaging

# `make bench BENCH="get start"` runs these groups, BENCH=help lists them, and BASE=FOLDER compares with another checkout.
BENCH ?=
bench: $(DEV)  ## measure handfast beside other CoAP stacks (minutes), and write docs/performance.md
	@.ci/tools bench
	@.ci/tools arm
	@$(MAKE) --no-print-directory -j2 $(FOREIGN) $(LOAD) $(ARM)
	$(BIN)/python -m tests.bench $(if $(filter help,$(BENCH)),--help,$(or $(BENCH),--docs)) $(if $(BASE),--base $(BASE))
	$(if $(BENCH),,$(BIN)/python -m pytest -q -m "bench and not soak" tests/bench)

soak: $(DEV)  ## send 200,000 requests on one session and check each answer and the memory (minutes)
	$(BIN)/python -m pytest -q -s -m soak tests/bench

interop: $(DEV) .venv/node/npm-coap  ## run the tests whose toolchains CI does not install
	@.ci/tools arm
	@$(MAKE) --no-print-directory $(ARM)
	$(BIN)/python -m pytest -q -m toolchain tests/interop tests/bench

# `make board SUITES=bookworm` boots this Debian only. The first run downloads it.
board: $(DEV) $(SUITES:%=.venv/board/.%)  ## boot Debian in a container with the packages, and test the service
	@$(MAKE) --no-print-directory deb ARCHES=$$(dpkg --print-architecture)
	SUITES="$(SUITES)" $(BIN)/python -m pytest -q -m booted tests/packaging/booted

.venv/board/.%: tests/packaging/booted/tree | $(MADE)
	@.ci/tools board
	$< $* .venv/board
	@touch $@

# Run this with the oldest supported Python: it requires the most backports, and newer versions ignore them.
lock: $(DEV)  ## pin the newest allowed versions in requirements*.lock
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra remote --extra tunnel --constraint requirements.lock --output-file requirements-remote.lock pyproject.toml
	$(COMPILE) --extra scan --extra remote --extra tunnel --extra test --extra dev --constraint requirements-remote.lock --output-file requirements-dev.lock pyproject.toml
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

# Python for 64-bit ARM in QEMU, handled in the same way.
$(ARM): $(wildcard tests/bench/arm/*) requirements.lock | $(MADE)
	@tests/bench/arm/build .venv/arm requirements.lock $(BIN)/python >.venv/arm.log 2>&1 || \
	  echo "make: Python for ARM could not be installed (see .venv/arm.log): its tests are left out" >&2

.venv/node/npm-coap: $(wildcard tests/interop/node/*) | $(MADE)
	@tests/interop/node/build .venv/node >.venv/npm-coap.log 2>&1 || \
	  echo "make: npm's CoAP client could not be installed (see .venv/npm-coap.log): its tests are left out" >&2
