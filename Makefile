# Always `python -m`: the scripts in .venv/bin do not work under a path with a space in it.
# Another environment beside it: make test VENV=var/3.12 PYTHON=python3.12, or REQUIREMENTS=requirements-lowest.txt.
VENV := .venv
REQUIREMENTS := requirements-dev.txt
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PEERS := var/peers/.installed
SUPPLIED := var/supply
SUPPLY := $(SUPPLIED)/.installed
SYFT := $(or $(shell command -v syft),$(SUPPLIED)/bin/syft)
PROTOS := $(wildcard protobufs/*.proto examples/*/*.proto)
PARALLEL := -n 4 --dist loadfile# most tests wait, so more of them than cores at once
GENERATED := $(foreach proto,$(PROTOS:.proto=),$(proto)_pb2.py $(proto)_pb2.pyi $(proto)_pb2_grpc.py)

# A Python that is named is the one of the environment, which is made again if it is not.
VERSION := -c 'import sys; print(sys.version)'
ifdef PYTHON
ifneq ($(shell $(PYTHON) $(VERSION)),$(shell test -x $(PY) && $(PY) $(VERSION)))
.PHONY: $(STAMP)
endif
endif
PYTHON ?= python3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run faults fault heal drill why doctor certs test test-full test-stack test-all coverage bench conformance lint format dashboards reference manifests protobufs lock clean chaos

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 26

run: $(STAMP) $(GENERATED) ## start both services here, print each trace and serve a page of them (ARGS=--quiet for no traces)
	@exec $(if $(FAULTS),env MARKETPLACE_FAULTS_PORT=9111 RECOMMENDATIONS_FAULTS_PORT=9112) $(PY) -m tools.run $(ARGS)

faults: $(STAMP) $(GENERATED) ## list the faults that can be switched on, and what to expect of each
	@$(PY) -m tools.faults list

fault: $(STAMP) $(GENERATED) ## switch a fault on: NAME=slow, with SHARE=, MS=, CODE= where it has them
	@$(PY) -m tools.faults on '$(NAME)' '$(SHARE)' '$(MS)' '$(CODE)'

heal: $(STAMP) $(GENERATED) ## switch all faults off
	@$(PY) -m tools.faults heal

drill: $(STAMP) $(GENERATED) ## switch a fault on, find it and heal it, step by step (NAME=slow)
	@$(PY) -m tools.drill '$(NAME)'

why: $(STAMP) $(GENERATED) ## why was a trace of make run or of the stack slow, or why did it fail? (TRACE=id)
	@$(PY) -m tools.why '$(TRACE)'

doctor: $(STAMP) $(GENERATED) ## find out why there are no traces, no metrics or an empty dashboard, and what to do
	@$(PY) -m tools.doctor $(ARGS)

certs: $(STAMP) ## make a development CA and both services' certificates in var/certs, and print their settings
	@$(PY) -m tools.certs

test: $(STAMP) $(GENERATED) ## run the tests that need only Python (ARGS=... goes to pytest; -n 0 runs one at a time)
	$(PY) -m pytest $(PARALLEL) --ignore=tests/stack -m "not full" $(ARGS)

test-full: $(STAMP) $(GENERATED) ## run what test leaves out: more of conformance, the services under faults, installing
	$(PY) -m pytest $(PARALLEL) --ignore=tests/stack -m full $(ARGS)

test-stack: $(STAMP) $(GENERATED) ## run the tests that need Prometheus, Chromium or a container engine
	$(PY) -m pytest tests/stack $(ARGS)

test-all: test test-full test-stack ## run all three

coverage: $(STAMP) $(GENERATED) ## run the tests of make test, and show which lines they do not reach
	$(PY) -m pytest $(PARALLEL) --ignore=tests/stack -m "not full" --cov --cov-report=term-missing:skip-covered $(ARGS)

chaos: $(STAMP) $(GENERATED) ## faults at random while people are in the shop (SEED= draws the same ones again, MINUTES=5, DATABASE=postgresql)
	$(PY) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(DATABASE),--database $(DATABASE))

bench: $(STAMP) $(GENERATED) $(PEERS) ## measure what telemetry costs, and write docs/cost.md (ARGS="--rounds 3 --only shipped")
	PYTHONPATH=var/peers $(PY) -m benchmarks.cost $(ARGS)

conformance: $(STAMP) $(GENERATED) $(PEERS) ## compare with bare grpcio and with the peers: docs/conformance.md, and the cases by name in var/conformance/
	PYTHONPATH=var/peers $(PY) -m tests.conformance

lint: $(STAMP) $(GENERATED) ## ruff, mypy, import contracts, generated files up to date, the proto compatible with old clients
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command as c; c()'
	$(PY) -m grafana --check
	$(PY) -m tools.reference --check
	$(PY) -m kubernetes --check
	@$(PY) -m tools.licences >/dev/null
	$(PY) -m protobufs.check
	@! git ls-files | grep -E '_pb2(_grpc)?\.pyi?$$' || { echo 'generated code is committed'; exit 1; }

format: $(STAMP) ## format the code and fix what ruff can fix
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

dashboards: $(STAMP) ## write grafana/dashboards/*.json and alerts.yml from their code
	$(PY) -m grafana
	$(PY) -m kubernetes

reference: $(STAMP) $(GENERATED) ## write docs/reference.md from the docstrings of observability/
	$(PY) -m tools.reference

manifests: $(STAMP) ## write what kubernetes/ takes from compose.yaml, alerts.yml and the dashboards
	$(PY) -m kubernetes

.PHONY: digests kubernetes-tools
digests: $(STAMP) ## build both images, push them to REGISTRY=, and write their digests into the production overlay
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PY) -m kubernetes.digests '$(REGISTRY)'

kubernetes-tools: ## build what test-stack checks kubernetes/ with (needs Go; ARGS='apiserver collector' adds these)
	tests/stack/cluster/build.sh $(ARGS)

protobufs: $(GENERATED) ## generate the protobuf code

.PHONY: licences sbom audit
licences: $(STAMP) ## list the licences of what the images hold; fails for one that is not allowed
	@$(PY) -m tools.licences

sbom: $(SUPPLY) $(SYFT) ## write what is in both images and in the package, as CycloneDX, into var/sbom (needs an engine, and syft or Go)
	PATH="$(CURDIR)/$(SUPPLIED)/bin:$$PATH" $(SUPPLIED)/tools/bin/python -m tools.sbom

audit: $(SUPPLY) ## look up known vulnerabilities of what is in the images (OSV=all.zip looks in that file alone)
	$(SUPPLIED)/tools/bin/python -m tools.audit $(OSV)

lock: ## resolve the ranges of pyproject.toml again, to the newest versions (needs uv)
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --upgrade --quiet \
		pyproject.toml --all-extras --group services --group dev --output-file requirements-dev.txt
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --quiet \
		pyproject.toml --extra flask --extra gunicorn --extra http --group services \
		--constraint requirements-dev.txt --output-file requirements.txt
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --upgrade --quiet \
		pyproject.toml --all-extras --group services --group dev --resolution lowest-direct --output-file requirements-lowest.txt
	uv pip compile --universal --python-version 3.13 --no-strip-extras --generate-hashes --no-header --no-annotate --upgrade --quiet \
		--group load --output-file tools/load/requirements.txt
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --upgrade --quiet \
		--group supply --output-file requirements-supply.txt

clean: ## remove what the other targets made
	rm -rf $(VENV) var .coverage .coverage.* .*_cache .hypothesis $(GENERATED)
	find . -name __pycache__ -prune -exec rm -rf {} +

# --clear: an install that was interrupted leaves no stamp, and is made again.
$(STAMP): $(REQUIREMENTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 16))' || \
		{ echo "PYTHON must be Python 3.11 to 3.15, got $(PYTHON); name one that is: make PYTHON=python3.12 ..."; exit 1; }
	@echo 'Installing the locked dependencies into $(VENV), this once ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(REQUIREMENTS)
	@touch $@

# What our telemetry is compared with; nothing else uses it.
$(PEERS): requirements-peers.txt $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade \
		--target var/peers --requirement $<
	@touch $@

# The tools of sbom and audit, and the package in the versions of the images. It is built from a copy: it leaves files.
$(SUPPLY): requirements-supply.txt requirements.txt pyproject.toml
	@$(PYTHON) -m venv --clear $(SUPPLIED)/tools
	@$(SUPPLIED)/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@rm -rf $(SUPPLIED)/copy && mkdir -p $(SUPPLIED)/copy && cp -r pyproject.toml LICENSE docs observability $(SUPPLIED)/copy
	@sed -nE 's/^([a-z0-9._-]+)(\[.*\])?(==[^ ;]+).*/\1\3/p' requirements.txt >$(SUPPLIED)/versions.txt
	@$(PYTHON) -m venv --clear --without-pip $(SUPPLIED)/package
	@$(SUPPLIED)/tools/bin/python -m pip --python $(SUPPLIED)/package/bin/python install --quiet --disable-pip-version-check \
		--constraint $(SUPPLIED)/versions.txt './$(SUPPLIED)/copy[flask,gunicorn,http]'
	@touch $@

$(SUPPLIED)/bin/syft:
	GOBIN=$(CURDIR)/$(SUPPLIED)/bin go install github.com/anchore/syft/cmd/syft@v1.57.1

# One run makes all three files of a .proto.
%_pb2.py %_pb2.pyi %_pb2_grpc.py: %.proto $(STAMP)
	@$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $<
