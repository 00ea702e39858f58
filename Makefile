# One command each: make test, make demo, make lint. The environment is made once and remade when its recipe changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: test demo lint clean

test: $(READY)
	$(BIN)/python -m pytest -rs -n 2 --dist loadfile --no-loadscope-reorder

demo: $(READY)
	$(BIN)/composer demo

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

# Leaves .venv and runs/ alone: the first is slow to make, the second is the work of the user.
clean:
	rm -rf build dist demo *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find analysis benchmarks composer terms tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[test,dev]'
	touch $@
