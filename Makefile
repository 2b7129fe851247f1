# `make quickstart`, `make test`, `make test-all`: each makes .venv and installs what is pinned in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install cuda quickstart test test-all lint docs clean
CUDA ?= 13

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed; $(PYTHON) is {v.major}.{v.minor}. Try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[offline,dev,docs]'
	@touch $@

# CuPy and NVRTC for CUDA 13 or 12; the pins are those of 13
cuda: install
	@grep -v '^cuda-\|^cupy-\|^nvidia-cuda' constraints.txt > $(VENV)/constraints-cuda.txt
	$(BIN)/pip install --quiet --constraint $(if $(filter 13,$(CUDA)),constraints.txt,$(VENV)/constraints-cuda.txt) --editable '.[cuda$(CUDA)]'

quickstart: install
	@mkdir -p out
	@rm -rf out/quickstart
	COLBERT_RESEARCH_PROGRESS=log $(BIN)/papermill notebooks/quickstart.ipynb out/quickstart.ipynb -p output out/quickstart --no-progress-bar
	@$(BIN)/jupyter nbconvert --log-level ERROR --to html out/quickstart.ipynb
	@$(BIN)/colbert-research show out/quickstart.ipynb

# test: all but the tests marked slow; test-all: every test, which is what protects main
# plugins by name, for pytest rewrites the asserts in all modules of those that it loads by itself
test test-all: export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1
test test-all: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy has one process, which the tests leave time for when they wait
	@$(BIN)/mypy > $(VENV)/mypy.log 2>&1 & types=$$!; \
	set -- $(BIN)/pytest -p xdist -p _hypothesis_pytestplugin -n auto --maxprocesses 8 --dist worksteal $(if $(filter test,$@),-m "not slow"); \
	echo "$$@"; "$$@"; tests=$$?; \
	echo "$(BIN)/mypy"; wait $$types; types=$$?; cat $(VENV)/mypy.log; \
	test $$tests = 0 && test $$types = 0

lint: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# the book, with the notebooks executed; those that are as they were are not executed again
docs: install
	COLBERT_RESEARCH_PROGRESS=log $(BIN)/python docs/hooks/notebook_pages.py out/notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo out/book/index.html

clean:
	rm -rf $(VENV) out build dist *.egg-info
