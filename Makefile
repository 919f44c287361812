# `make run` starts the service and `make test` the tests. Both first install their requirements into .venv.

PYTHON ?= python3
BIN := .venv/bin
SBOM ?= var/sbom.json
# Node.js is optional: the tests that need it are left out where there is no npm.
NODE_TOOLS := $(if $(shell command -v npm),tests/node/node_modules/.package-lock.json)

.DEFAULT_GOAL := help
.PHONY: help run test demo bench failover attacks image sbom check lint wording imports types migrations bandit deployment advisories requirements clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: .venv/service  ## Serve Drift Watch on port 8000, with its own MongoDB unless MONGODB_URI is set
	@$(BIN)/python manage.py serve

test: .venv/dev .venv-client/client $(NODE_TOOLS)  ## Run the whole suite
	$(BIN)/pytest $(ARGS)

demo: .venv-client/demo  ## Run real detectors, report their runs to the running service, and list the models that drifted
	@.venv-client/bin/python examples/demo.py $(ARGS)

bench: .venv/dev  ## Compare the service with plain PyMongo on the same data; see benchmarks/README.md
	@$(BIN)/python -m benchmarks

failover: .venv/dev  ## Break a replica set under load, and check that nothing is lost; see docs/failover.md
	@$(BIN)/python -m benchmarks.failover

attacks: .venv/dev  ## Attack the service as deployed, and show how long others wait; see benchmarks/README.md
	@$(BIN)/python -m benchmarks.attacks

image: .venv/dev  ## Build the image, and run it behind nginx on a replica set; see docs/deployment.md
	@$(BIN)/python -m benchmarks.image

sbom: .venv/dev .venv-image/image  ## List the packages of the image in var/sbom.json (CycloneDX)
	@mkdir -p $(dir $(SBOM))
	@$(BIN)/python -W ignore::UserWarning -m cyclonedx_py environment --output-reproducible --pyproject pyproject.toml -o $(SBOM) .venv-image/bin/python

check: lint wording imports types migrations bandit deployment advisories  ## Run all checks but the tests: the eight targets below

lint: .venv/dev  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wording: .venv/dev  ## Check how comments and docstrings begin
	$(BIN)/python .ci/wording.py

imports: .venv/dev  ## Check that imports run down from package to package
	$(BIN)/lint-imports

types: .venv/dev  ## Check types
	$(BIN)/mypy .

migrations: .venv/dev  ## Check that each change of a model has its migration
	$(BIN)/python manage.py makemigrations --check --dry-run

bandit: .venv/dev  ## Look for known weaknesses in the code
	$(BIN)/bandit -q -r core audit accounts experiments drifts files transfer pages driftwatch -c pyproject.toml

deployment: .venv/dev  ## Check the Dockerfile and the compose file
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

advisories: .venv/dev  ## Look for known vulnerabilities in the dependencies
	$(BIN)/python .ci/advisories.py $(BIN)/pip-audit -r requirements.txt --no-deps --disable-pip

requirements: .venv/dev  ## Upgrade the pinned requirements, with their hashes
	for name in requirements requirements-dev tests/client/requirements examples/requirements; do \
	  $(BIN)/uv pip compile -q --upgrade --generate-hashes --universal --no-header --python-version 3.11 $$name.in -o $$name.txt || exit; \
	done

clean:  ## Remove the environments and the embedded database
	rm -rf .venv .venv-client .venv-image tests/node/node_modules var

# Each environment is created once, and updated when its pins change.

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Drift Watch needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/service: requirements.txt | .venv/bin/python
	$(BIN)/pip install -q --disable-pip-version-check --no-input --require-hashes -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt requirements.txt | .venv/bin/python
	$(BIN)/pip install -q --disable-pip-version-check --no-input --require-hashes -r requirements-dev.txt
	@touch $@ .venv/service

# The packages of the image, for their list. `Dockerfile` installs the same.

.venv-image/image: requirements.txt deploy/requirements.sed | .venv/bin/python
	$(PYTHON) -m venv --without-pip --clear .venv-image
	sed -f deploy/requirements.sed requirements.txt > .venv-image/requirements.txt
	$(BIN)/pip --python .venv-image/bin/python install -q --disable-pip-version-check --no-input --require-hashes -r .venv-image/requirements.txt
	@touch $@

# The published client pins older libraries than the service, so it has its own environment.

.venv-client/bin/python:
	$(PYTHON) -m venv .venv-client

.venv-client/client: tests/client/requirements.txt | .venv-client/bin/python
	.venv-client/bin/pip install -q --disable-pip-version-check --no-input --require-hashes -r tests/client/requirements.txt
	@touch $@

tests/node/node_modules/.package-lock.json: tests/node/package-lock.json
	cd tests/node && npm ci --silent --no-audit --no-fund
	@touch $@

.venv-client/demo: examples/requirements.txt .venv-client/client
	.venv-client/bin/pip install -q --disable-pip-version-check --no-input --require-hashes -r examples/requirements.txt
	@touch $@
