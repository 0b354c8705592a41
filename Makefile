# make               set up .venv and run the default workflow; bars in a terminal, plain lines elsewhere
# make test          set up what is missing and run the tests
# make browser       Chromium from Debian's packages, without which the tests of the pages are skipped
# make test-ends     the lowest of all dependencies on this Python, the newest on the newest that is found: minutes, 6 GB
# make test-slurm    a Slurm of one node, from Debian's packages, and the workflow on it: minutes; needs root
# make check         the fast part of the tests only: style, types, library
# make reproduction  the paper's figures in little, under both definitions, beside the published numbers: one to two hours
# make papers        every paper in little, one after the other: docs/reproduction.md says what came out
# make docs          these pages and a reference of the library as a site: docs/_build/index.html
# make bench         measure speed against the floor and against peers; make bench BENCH="lrp --threads 2" a part of it

PYTHON ?= python3
CORES ?= all
BIN := .venv/bin
NAME_ANOTHER := Name a Python, 3.11 or newer, with: make PYTHON=python3.12

.PHONY: run test browser test-ends test-slurm check reproduction papers docs bench clean

run: .venv/installed
	@$(BIN)/snakemake --cores $(CORES) $$(test -t 2 && echo --logger rich || echo --quiet rules)

test: .venv/tested
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

browser: .venv/tested
	@$(BIN)/python -m tests.workflow.chromium

test-ends: .venv/tested
	@$(BIN)/python -m tests.ends

test-slurm: .venv/tested .venv/slurm
	@$(BIN)/python -m tests.cluster.install
	@$(BIN)/python -m pytest -v -s tests/cluster

check: .venv/tested
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not workflow"

reproduction: .venv/installed
	@$(BIN)/snakemake --cores $(CORES) $$(test -t 2 && echo --logger rich || echo --quiet rules) \
		--configfile config/reproduction.yaml config/small.yaml

papers: reproduction
	@for config in carbone2020 carbone2020_published kim2019; do \
		$(BIN)/snakemake --cores $(CORES) $$(test -t 2 && echo --logger rich || echo --quiet rules) \
			--configfile config/papers/$$config.yaml config/small.yaml || exit 1; done

docs: .venv/tested
	@$(BIN)/python -m sphinx -E -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

bench: .venv/bench
	@$(BIN)/python -m benchmarks $(BENCH)

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. $(NAME_ANOTHER)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". $(NAME_ANOTHER)")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments, since it has no ensurepip. On Debian, install python3-venv. $(NAME_ANOTHER)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test
	@touch $@

.venv/slurm: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group slurm
	@touch $@

.venv/s3: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group s3
	@touch $@

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	@touch $@

clean:
	rm -rf .venv .ends results/* logs .snakemake docs/_build
