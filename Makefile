# `make demo` and `make test` need Python 3.11+, make and a C library; they install everything else into .venv.
PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(VENV)/bin/python -m pytest

.PHONY: help install demo test test-deploy test-gpu boards-preview lint format chaos fuzz soak bench bench-core bench-embed bench-gpu docs audit clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed ## Make the environment .venv, with pinned versions

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Farpoint needs Python 3.11 or newer, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about 1 GB, a minute or two)"
	$(PIP) --editable '.[demo,dev]'
	@touch $@

# torch is for training and export alone, and large: the tests of the exporter need it, the service never does.
$(VENV)/.installed-train: $(VENV)/.installed
	@echo "installing torch for the tests of the exporter (about 5 GB, some minutes)"
	$(PIP) --editable '.[demo,dev,train]'
	@touch $@

# CUDA and cuDNN from Python packages; the driver must be there.
$(VENV)/.installed-cuda: $(VENV)/.installed
	@echo "installing the CUDA libraries (about 3 GB, some minutes)"
	$(PIP) --editable '.[demo,dev,cuda]'
	@touch $@

demo: install ## Run the whole product on this machine, on real video
	$(VENV)/bin/farpoint demo

test: $(VENV)/.installed-train ## Run the whole test suite, against a real Kafka that it starts itself
	$(PYTEST) --ignore=tests/deploy

test-deploy: install ## Run the tests that need programs of the system, such as promtool
	$(PYTEST) tests/deploy

boards-preview: install ## Draw Grafana's boards, of a worker under load, into build/boards; needs Prometheus and Alertmanager
	PYTHONPATH=.:deploy/grafana $(VENV)/bin/python -m tests.deploy.preview

lint: install ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: install ## Mend the style
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

chaos: install ## Kill, stop and pause workers and brokers at random, 100 times; SEED= and DISRUPTIONS= to choose
	$(VENV)/bin/python -m tests.chaos --seed $(or $(SEED),1) --disruptions $(or $(DISRUPTIONS),100)

fuzz: install ## Throw 21,000 mutated inputs at all that reads bytes from outside; SEED= and COUNT= (for each door) to choose
	$(VENV)/bin/python -m tests.fuzz --seed $(or $(SEED),1) --count $(or $(COUNT),3000)

soak: install ## Run at full load for MINUTES= (10) and see whether memory, threads and file handles stay flat
	$(VENV)/bin/python -m tests.soak --minutes $(or $(MINUTES),10)

bench: install ## Measure: frames, vectors, latency and memory; prints the tables of docs/performance.md
	$(VENV)/bin/python -m tests.bench

bench-core: install ## Measure the numerical core, peers beside; DATA=folder with the files of ADBench and NAB adds those
	$(VENV)/bin/python -m tests.bench.core $(DATA)

bench-embed: install ## Measure the embed stage on the CPU against the bare device; ARGS=--quick for a first look
	$(VENV)/bin/python -m tests.bench.embed $(ARGS)

bench-gpu: $(VENV)/.installed-cuda ## The same on a GPU, with TensorRT and decoding on the GPU where they are to be had
	$(VENV)/bin/python -m tests.bench.gpu $(ARGS)

test-gpu: $(VENV)/.installed-cuda ## Run the tests that need a GPU
	$(PYTEST) tests/gpu

docs: install ## Generate what is generated: schemas, AsyncAPI, the settings and metrics pages, boards, the chart's rules
	$(VENV)/bin/python -m farpoint.schemas
	$(VENV)/bin/farpoint settings --markdown > docs/settings.md
	$(VENV)/bin/python -m farpoint.metrics_doc > docs/metrics.md
	PYTHONPATH=deploy/grafana $(VENV)/bin/python -m boards
	cp deploy/prometheus/rules/*.yml deploy/helm/farpoint/files/rules/

audit: install ## Ask the public advisories about every pinned package; fails also where it cannot ask
	test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean: ## Remove the environment and what tools leave behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
