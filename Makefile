# Everything installs into .venv here. Only FETCH=1 changes the machine: it installs Debian's packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test test-devices test-pythons test-containers test-integrations test-android lint full bench docs clean

demo: $(VENV)/.demo ## convert the real all-MiniLM-L6-v2, show its parity, search a small collection and a folder of notes
	$(BIN)/python examples/demo.py

test: $(VENV)/.test lint ## style, types, and every test that needs Python packages alone
	$(BIN)/python -m pytest -m "not device" --strict-skips

test-devices: $(VENV)/.test ## ssh, emulated ARM processors, a browser, a GPU in software; FETCH=1 installs them
	EDGE_EMBED_CACHE=$(abspath $(VENV))/devices tests/devices.sh $(BIN)/python $(if $(FETCH),--fetch)

test-pythons: ## the runtime's tests on every CPython from 3.10 on that this machine has
	tests/pythons.sh $(VENV)/pythons

test-containers: ## .task, .litertlm and pairs read back through Google's wheels; FETCH=1 installs what they load
	tests/containers.sh $(PYTHON) $(VENV)/containers $(if $(FETCH),--fetch)

test-integrations: ## the adapters, with the own tests of LangChain, Haystack and others, in an environment of its own
	tests/integrations.sh $(PYTHON) $(VENV)/integrations $(ARGS)

# More groups of tests go here, each one target that .ci/run calls as well.

test-android: ## compile the Android demo and test its core on the JVM; FETCH=1 fetches the tools
	android_demo/test.sh $(if $(FETCH),--fetch)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

full: $(VENV)/.test ## the full-size EmbeddingGemma checks; TOKENIZER=path/to/gemma/tokenizer.json for the real one
	$(BIN)/python -m edge_embed_bench.published.full_size $(if $(TOKENIZER),--tokenizer $(TOKENIZER))

bench: $(VENV)/.peers ## speed beside other engines; CORPUS=path/to/corpus.jsonl for documents/s; ARGS='--only gemma'
	$(BIN)/python -m edge_embed_bench.published.speed $(if $(CORPUS),--corpus $(CORPUS)) $(ARGS)

docs: $(VENV)/.docs ## build the documentation site into build/site; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) (PyTorch among it: a minute or more)"
	$(PIP) --editable '.[convert,demo]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) (PyTorch among it: a minute or more)"
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	@echo "installing the other engines (llama.cpp is compiled: some minutes)"
	$(PIP) --editable '.[test,peers]'
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[docs]'
	@touch $@
