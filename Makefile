# Everything a person does with this repository. `make serve` is the first command to type.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin

# llama.cpp serves its grammar sampler alone: build no tools, no vision code, no second OpenMP beside torch's, and
# nothing tied to this machine's CPU (a wheel in pip's cache may outlive it). 2.5 minutes on two cores, once.
export CMAKE_ARGS ?= -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF \
	-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF \
	-DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF
# The compile jobs of that build; lower it where memory is short.
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN)

# Compiled by the install, so that a change of them asks for another.
KERNELS := $(wildcard engine/model/native/*)

PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: serve test test-clients check format openapi install install-dev clean

serve: install
	$(BIN)/hotseat serve

test: install-dev
	$(BIN)/python -m pytest

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The HTTP interface as a file; a test compares it with the server.
openapi: install-dev
	$(BIN)/python -m server.description > docs/openapi.json

# Other people's clients against the running server. Not all of them can live in one environment; Node's wants npm.
CLIENTS := requirements requirements-llm requirements-litellm
test-clients: install-dev
	for name in $(CLIENTS); do \
		test -x $(VENV)-$$name/bin/python || $(PYTHON) -m venv $(VENV)-$$name; \
		$(VENV)-$$name/bin/python -m pip install --disable-pip-version-check -r tests/clients/$$name.txt || exit 1; \
	done
	if command -v npm > /dev/null; then npm install --no-package-lock --prefix tests/clients/node; fi
	$(BIN)/python -m tests.clients $(foreach name,$(CLIENTS),$(VENV)-$(name)/bin/python)

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# The stamps are newer than pyproject.toml and the kernels once all is in, so a second start installs nothing.
$(VENV)/.installed: pyproject.toml $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[dev]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build *.egg-info engine/model/_native*.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
