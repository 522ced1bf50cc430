# The chores of Perennial: one word each, the same for people, hooks and CI.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
WORKERS ?= 3
SPEC ?= examples/flights.toml
OVERLAY ?= production
URL ?= http://127.0.0.1:8000
PACKAGES := perennial service monitoring tasks flows deployments

.DEFAULT_GOAL := help
.PHONY: help demo up down test fuzz faults lint format bench bench-serve bench-fleet bench-chain bench-train bench-decisions docs docs-site lock wheel check-image check-s3 check-dask check-services canary smoke rollback-release check-delivery check-triage check-deploy security system image push-image release-service release-flows clean

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

# The lock is whole, so --no-deps installs exactly it; the stamp is written last, so a broken install is done again.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else f"Perennial needs Python 3.11 or newer, and $(PYTHON) is {v[0]}.{v[1]}; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.installed  ## a year of real flights through the whole loop (ARGS="--quick", "--until 2013-06-30", "--keep")
	$(BIN)/perennial demo $(ARGS)

up: .venv/.installed  ## start the stack and leave it running (SPEC=examples/flights.toml)
	$(BIN)/perennial up $(SPEC)

down: .venv/.installed  ## end the stack
	$(BIN)/perennial down

canary: .venv/.installed  ## bring a release to two local replicas, or back when it fails (RELEASE=other/.venv/bin/python; ARGS="--watch 60")
	$(BIN)/python -m deployments.delivery canary $(SPEC) $(if $(RELEASE),--release $(RELEASE)) $(ARGS)

smoke: .venv/.installed  ## test a running service, leaving no prediction behind (URL=http://127.0.0.1:8000)
	$(BIN)/python -m deployments.delivery smoke $(URL)

rollback-release: .venv/.installed  ## bring the release before back to the local replicas
	$(BIN)/python -m deployments.delivery rollback-release $(ARGS)

check-delivery: .venv/.installed  ## test that cycle with real replicas, nginx where it is installed, and broken releases
	TEST_DELIVERY=1 $(BIN)/python -m pytest tests/deployments/delivery $(ARGS)

check-triage: .venv/.installed  ## test that three kinds of failures are three issues in Bugsink (installs it)
	TEST_TRIAGE=1 $(BIN)/python -m pytest tests/triage $(ARGS)

test: .venv/.installed  ## run every test (ARGS="tests/perennial -k registry", WORKERS=0 for one after another)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --no-loadscope-reorder $(ARGS)

fuzz: .venv/.installed  ## run the property tests on random examples, ten times as many (ARGS="tests/perennial")
	$(BIN)/python -m pytest --numprocesses $(WORKERS) -m hypothesis --hypothesis-profile fuzz $(ARGS)

faults: .venv/.installed  ## break a living stack at random and count what it cost (ARGS="--episodes 50 --seed 7")
	$(BIN)/python -m tests.faults.episodes $(ARGS)

lint: .venv/.installed  ## style, types, direction of imports, Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: .venv/.installed  ## put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.installed  ## measure the paths where speed counts
	$(BIN)/python -m benchmarks $(ARGS)

bench-serve: .venv/.installed  ## measure the service against others, each in an environment of its own (ARGS=--quick; needs wrk)
	$(BIN)/python -m benchmarks.serve $(ARGS)

bench-fleet: .venv/.installed  ## measure 50 models, the service alone and the whole stack (ARGS="--models 50 --rate 2000")
	$(BIN)/python -m benchmarks.fleet $(ARGS)
	$(BIN)/python -m benchmarks.fleet_stack $(ARGS)

bench-chain: .venv/.installed  ## measure the loop from a window's last record to the next champion (ARGS="--rounds 20")
	$(BIN)/python -m benchmarks.chain $(ARGS)

bench-train: .venv/.installed  ## measure a first training on a large table, beside one fit by hand (ARGS="--rows 5000000")
	$(BIN)/python -m benchmarks.train $(ARGS)

bench-decisions: .venv/.installed  ## measure what decisions about training and promoting are worth (ARGS="--sets bike-7d --data DIR")
	$(BIN)/python -m benchmarks.decisions $(ARGS)

docs: .venv/.installed  ## generate the reference in docs/
	$(BIN)/python docs/generate.py

docs-site: .venv-docs/.installed  ## build the documentation as a site, build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "built; open build/site/index.html"

.venv-%/.installed: requirements-%.lock
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

lock: .venv/.installed  ## resolve the dependencies anew for every platform
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --constraints requirements.lock --group serve -o requirements-serve.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --group docs -o requirements-docs.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --group triage -o requirements-triage.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --constraints requirements.lock --extra s3 --extra dask --group dev --group scale pyproject.toml -o requirements-scale.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --group deploy -o requirements-deploy.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --constraints requirements.lock --group prefect-server -o requirements-prefect-server.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --constraints requirements.lock pyproject.toml -o requirements-full.lock

wheel: .venv/.installed  ## build the package into dist/
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build

check-s3: .venv-scale/.installed  ## test registry and prediction log on a real S3 server (moto), in an environment of its own
	.venv-scale/bin/python -m pytest tests/s3 $(ARGS)

check-dask: .venv-scale/.installed  ## test a backtest on a Dask cluster of two worker processes, in an environment of its own
	.venv-scale/bin/python -m pytest tests/dask $(ARGS)

check-services: .venv/.installed .venv-prefect-server/.installed  ## test every role without containers, two of each, on PostgreSQL, Redis and nginx (of apt where this is root)
	TEST_SERVICES=1 $(BIN)/python -m pytest tests/services $(ARGS)

.venv-scale/.installed: requirements-scale.lock
	$(PYTHON) -m venv .venv-scale
	.venv-scale/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-scale.lock
	.venv-scale/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

check-image: .venv/.installed  ## build and run the container images (root on Debian; needs buildah, debootstrap)
	$(BIN)/python -m tests.image.check

system:  ## what a machine needs beside Python: LightGBM's OpenMP (Homebrew on macOS, apt where this is root)
	@if [ "$$(uname)" = Darwin ]; then brew install --quiet libomp; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then apt-get install --quiet --yes libgomp1; fi

image:  ## build both container images with Docker, and run their commands
	docker build --target serve --tag perennial:serve .
	docker build --target full --tag perennial:full .
	docker run --rm --read-only perennial:serve
	docker run --rm --read-only --tmpfs /tmp perennial:full perennial version

push-image:  ## build both images with provenance and bill of materials, and push them (REPOSITORY=ghcr.io/us/perennial TAG=v1.2.3)
	deployments/push-image

release-service:  ## bring an image to the replicas on Kubernetes, or back when its canary fails (SERVE_IMAGE=...@sha256:...; ARGS="--watch 60")
	deployments/kubernetes/with-kubeconfig deployments/kubernetes/release $(SERVE_IMAGE) $(ARGS)

release-flows:  ## apply the overlay with two images, and deploy the flows (SERVE_IMAGE=... FULL_IMAGE=... OVERLAY=production)
	deployments/kubernetes/with-kubeconfig deployments/kubernetes/apply $(OVERLAY) $(SERVE_IMAGE) $(FULL_IMAGE)

check-deploy: .venv/.installed .venv-deploy/.installed  ## check compose file, Kubernetes objects, Terraform, workflows, alert rules, Dockerfile
	$(BIN)/python -m tests.clusters.check

security: .venv-deploy/.installed  ## known holes of the locked versions, insecure calls, secrets in files
	.venv-deploy/bin/pip-audit --disable-pip --no-deps --require-hashes -r requirements.lock
	.venv-deploy/bin/bandit --configfile pyproject.toml --quiet --recursive --severity-level medium $(PACKAGES)
	.venv-deploy/bin/python -m tests.clusters.secrets

clean:  ## remove the environment and all state
	rm -rf .venv .venv-docs .venv-scale .venv-deploy .venv-prefect-server var build dist benchmarks/.envs
