# Five words: install, fix, check, test, bench. `make help` lists everything.
PYTHON ?= python3
VENV ?= .venv
VENV_4_57 ?= .venv-4.57
FRAMEWORKS ?= .venv-frameworks
# LLaMA-Factory's bound, Axolotl's pin, and the ends of 5.x.
VERSIONS ?= 5.0.0 5.6.2 5.16.1 5.24.0

.DEFAULT_GOAL := help
# No target is a file; each has its line in `make help`.
.PHONY: $(shell awk -F: '/^[a-z0-9.-]+:.*\#\# / {print $$1}' $(MAKEFILE_LIST))

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "%-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Make .venv with the tested versions and everything for development
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -c constraints.txt -e '.[dev]'

install-4.57: ## Make .venv-4.57 with transformers 4.57 and what its tests need
	$(PYTHON) -m venv $(VENV_4_57)
	$(VENV_4_57)/bin/pip install -c constraints-4.57.txt -e '.[test]'

fix: ## Let ruff repair what it can
	$(VENV)/bin/ruff check --fix .

check: ## Lint and type-check; changes nothing
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --strict ko_cpt_callbacks

test: ## Run all tests
	$(VENV)/bin/python -m pytest

test-4.57: install-4.57 ## Run the tests that hold on transformers 4.57 too
	$(VENV_4_57)/bin/python -m pytest -m both_versions

test-versions: ## Those tests on other releases of transformers too (VERSIONS="5.0.0 …"); an hour
	for version in $(VERSIONS); do \
		$(PYTHON) -m venv .venv-$$version && \
		.venv-$$version/bin/pip install -e '.[test]' torch==2.13.0 transformers==$$version && \
		.venv-$$version/bin/python -m pytest -m both_versions || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

test-families: ## Stages of every family of models that is tried: a tiny one each, 8 bits and LoRA (four minutes)
	$(VENV)/bin/python -m pytest tests/training/test_families.py -m "families or not families"

test-browser: ## Reports in headless Chromium (apt-get install chromium); skipped without it
	$(VENV)/bin/python -m pytest tests/report/test_browser.py -m browser

test-cluster: ## Rows by datatrove's executors, Ray's and Slurm's among them (as root, tests/training/slurm.sh makes one)
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/pip install -c constraints.txt -e '.[cluster,test]'
	.venv-cluster/bin/python -m pytest tests/training/test_executor.py -m cluster

test-frameworks: ## Axolotl and LLaMA-Factory themselves, in the environments of tests/integrations/environments.sh
	$(FRAMEWORKS)/axolotl/bin/python -m pytest -m framework tests/integrations/test_axolotl.py
	$(FRAMEWORKS)/llamafactory/bin/python -m pytest -m framework tests/integrations/test_llamafactory.py

test-trackers: ## Every tracker itself, offline, in the environment of tests/integrations/environments.sh
	$(FRAMEWORKS)/trackers/bin/python -m pytest -m framework tests/integrations/test_trackers.py

test-peers: ## Tests of transformers, TRL and PEFT with the callback in every Trainer (PEERS="--trl DIR …")
	$(VENV)/bin/python benchmarks/peers.py $(PEERS)

golden: ## What the judge says of the suite, real logs and --json outputs, against what is kept (three minutes)
	$(VENV)/bin/python tests/golden/record.py --check

docs: ## Write what README and docs have from the code again: pages, transcripts, the picture
	$(VENV)/bin/python docs/findings.py
	$(VENV)/bin/python docs/recipe.py
	$(VENV)/bin/python docs/registry.py
	$(VENV)/bin/python docs/api.py
	$(VENV)/bin/python docs/picture.py
	$(VENV)/bin/python docs/transcripts.py

notebook: ## Execute examples/trainer.ipynb anew; needs nbclient, nbformat and ipykernel (half a minute)
	$(VENV)/bin/python docs/notebook.py

POOL := apache2-doc=2.4.68-1~deb12u1 crawl-common=2:0.28.0-1.1 debian-history=2.28 gnome-devel-docs=40.3-1 \
	gnome-user-docs=43.0-2 installation-guide-amd64=20230508+deb12u1 libreoffice-help-en-us=4:7.4.7-1+deb12u14 \
	libreoffice-help-ko=4:7.4.7-1+deb12u14

reference-text: ## Draw the reference text of `ko-cpt measure` again from Debian 12's packages, and compare
	mkdir -p build/reference
	cd build/reference && apt-get download $(POOL)
	$(VENV)/bin/python benchmarks/reference_text.py build/reference --check

docs-site: ## Build the site of docs/ with mkdocs-material; a warning fails it
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install -c constraints.txt mkdocs-material
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

types: ## How much of the public surface pyright knows the type of (99 % or more); needs node
	$(PYTHON) -m venv .venv-types
	.venv-types/bin/pip install -c constraints.txt pyright
	PYTHONPATH=. .venv-types/bin/pyright --pythonpath $(VENV)/bin/python --verifytypes ko_cpt_callbacks --ignoreexternal | tail -3

bench: bench-exactness bench-standard-error bench-overhead bench-bytes bench-data bench-targets bench-detection bench-pairs bench-memory bench-family bench-forecast bench-heading bench-checkpoints bench-stopping ## Run every benchmark

bench-exactness: ## Trainer's eval_loss, ours and a float64 reference (both versions)
	$(VENV)/bin/python benchmarks/exactness.py --python-4.57 $(VENV_4_57)/bin/python

bench-overhead: ## What the callback costs in time and memory
	$(VENV)/bin/python benchmarks/overhead.py

bench-alerts: ## What a webhook that hangs costs a training: nothing (two minutes)
	$(VENV)/bin/python benchmarks/alert_hang.py

bench-memory: ## What an evaluation takes more of memory at a 256k vocabulary
	$(VENV)/bin/python benchmarks/evaluation_memory.py

bench-standard-error: ## How often the 95 % interval holds the full-set loss
	$(VENV)/bin/python benchmarks/standard_error.py

bench-bytes: ## Bytes of the scored text, counted from token ids, against the text itself
	$(VENV)/bin/python benchmarks/bytes_exact.py

bench-stopping: ## How often a target that is looked at 200 times is ever met that is not, and what that costs
	$(VENV)/bin/python benchmarks/stopping.py

bench-data: ## How fast a corpus becomes rows, beside encode_batch alone and the old way (DATATROVE="--datatrove PYTHON")
	$(VENV)/bin/python benchmarks/data_speed.py $(DATATROVE)

bench-targets: ## How often a verdict on a target is wrong where the truth is known
	$(VENV)/bin/python benchmarks/targets.py

bench-detection: ## Failures named, healthy runs left alone, on labelled logs; time of a check
	$(VENV)/bin/python benchmarks/detection.py --seeds 100-104
	$(VENV)/bin/python benchmarks/check_time.py --rows 10000 --limit 3
	$(VENV)/bin/python benchmarks/check_time.py --rows 100000 --repeats 1 --limit 20

bench-measure: ## What `ko-cpt measure` says, against float64 and lm-evaluation-harness (LM_EVAL="--lm-eval PYTHON")
	$(VENV)/bin/python benchmarks/measure.py $(LM_EVAL)

bench-reference: ## How well the reference text tells two checkpoints apart, and whether its interval holds its pool's number
	mkdir -p build/reference
	cd build/reference && apt-get download $(POOL)
	$(VENV)/bin/python benchmarks/reference_error.py build/reference

bench-family: ## How far a forecast by runs of the same set-up is off, and which runs leave their band
	$(VENV)/bin/python benchmarks/family.py

bench-forecast: ## How far a forecast is from where the loss ended, beside other laws
	$(VENV)/bin/python benchmarks/forecast.py

bench-heading: ## Whether a run that reaches its target is stopped as out of reach, and when one is that does not
	$(VENV)/bin/python benchmarks/heading.py

bench-checkpoints: ## How often the true best is among the checkpoints called as good as the best, and how many are
	$(VENV)/bin/python benchmarks/checkpoints.py

bench-pairs: ## How often the interval of a paired difference holds the true difference
	$(VENV)/bin/python benchmarks/paired_intervals.py
	$(VENV)/bin/python benchmarks/published_pair.py

fuzz: ## Rules on 20,000 odd logs, commands on 10,000 damaged files: nothing may raise
	$(VENV)/bin/python benchmarks/fuzz_rules.py
	$(VENV)/bin/python benchmarks/fuzz_commands.py

mutants: ## Of 400 random changes of signals and rules, how many their own tests notice (ten minutes)
	$(VENV)/bin/python benchmarks/mutants.py --mutants 400 --seed 0

mutants-limits: ## Every number of signal/limits.py halved and doubled: does a test fail?
	$(VENV)/bin/python benchmarks/mutants.py --limits

campaign-ranks: ## Faults of our own code on one of two ranks: the training goes on, to the same weights
	$(VENV)/bin/python benchmarks/rank_campaign.py
