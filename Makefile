# One command each. Needs Python 3.11 or newer and make; everything else goes into .venv.
#
#   make run                      the local stack in the foreground; Ctrl-C stops it
#   make run ARGS=--once          one run, then stop
#   make run ARGS="--once --json" the same, result as one JSON object on the last line of stdout
#   make test                     lint, types, imports, tests
#   make test-contract            emulators against the vendors' own clients
#
# Exit status. The result of a run is the status of app-connect: 0 SUCCESS, 3 一部エラー, other ERROR.
# GNU make itself knows three statuses only and answers 2 to every recipe that fails, so after
# `make run` 0 is 0 and anything else is 2, with the real one in make's own message
# ("Error 3" on stderr). A script that must tell 一部エラー from ERROR asks without make between:
#
#   make -s setup && .venv/bin/app-connect up --once; echo $?

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
ARGS   ?=
SIZE   ?= 100000
# Tests wait more than they work: three processes keep two cores busy.
WORKERS ?= 3

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

# Two makes at once (a run here, the tests there) install one after the other, where flock exists.
LOCKED := $(shell command -v flock >/dev/null 2>&1 && echo "flock Makefile")

# $(call install,LOCK): everything on stderr, so that stdout stays the program's own.
define install
$(LOCKED) sh .ci/setup "$(PYTHON)" "$(VENV)" "$(1)" >&2
endef

.PHONY: run setup test docs audit test-contract test-ui test-database faults bench check format lock clean help
.DEFAULT_GOAL := help

run: setup
	@exec $(VENV)/bin/app-connect up $(ARGS)

setup: ## .venv with what a run needs
	@$(call install,run)

test: ## lint, format, types, import rule, tests
	@$(call install,dev)
	@$(MAKE) --no-print-directory check
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore=tests/ui --ignore=tests/database \
		--ignore=tests/contract $(ARGS)

check:
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

docs: setup ## pages that are made from data files
	$(PY) -m connectors.kit.errors_page > docs/errors.ja.md

test-contract: ## each emulator against its vendor's own client, which lives in .contract/
	@$(call install,dev)
	@$(LOCKED) sh .ci/contract "$(PYTHON)" >&2
	$(PY) -m pytest tests/contract $(ARGS)

test-ui: ## browser tests; needs Debian's chromium and Japanese fonts (see .ci/run)
	@$(call install,ui)
	$(PY) -m pytest tests/ui $(ARGS)

test-database: ## a PostgreSQL of your own, backup, upgrade; needs Debian's postgresql (see .ci/run)
	@$(call install,dev)
	$(PY) -m pytest tests/database $(ARGS)

SEEDS  ?= 25
JOBS   ?= 4
SEED   ?=

faults: ## random histories: SEEDS=1000, or one again: SEED=17; the last line counts violations
	@$(call install,dev)
	@$(PY) tests/faults/histories.py $(if $(SEED),--seed $(SEED) --verbose,--seeds $(SEEDS) --jobs $(JOBS)) $(ARGS)

bench: setup ## the engine beside a bare httpx loop; minutes of full load
	$(PY) -m bench.customers --size $(SIZE) $(ARGS)

format: ## ruff: fix and format
	@$(call install,dev)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

UV_COMPILE = $(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade)

lock: ## requirements/*.txt from pyproject.toml; UPGRADE=1 for newer versions
	@$(call install,dev)
	$(UV_COMPILE) --group build -o requirements/run.txt
	$(UV_COMPILE) --group build --group dev -c requirements/run.txt -o requirements/dev.txt
	$(UV_COMPILE) --group build --group dev --group ui -c requirements/dev.txt -o requirements/ui.txt
	$(subst pyproject.toml,,$(UV_COMPILE)) --group contract-mfexpense -o requirements/contract-mfexpense.txt

audit: ## known vulnerabilities of the locked packages; 3 = the service could not be asked
	@$(call install,dev)
	@sh .ci/audit "$(VENV)" requirements/ui.txt

clean: ## remove .venv and caches; the data of the local stack (.state) stays
	rm -rf $(VENV) .contract .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@echo "make run        ローカル環境を起動します（ARGS=--once で1回だけ実行）"
	@echo "make test       静的検査とテスト"
	@echo "make test-contract  各サービスの公式クライアントでエミュレーターを確かめます"
	@echo "make test-ui    ブラウザのテスト"
	@echo "make test-database  自分の PostgreSQL・バックアップ・版の移行のテスト"
	@echo "make faults     でたらめな障害の下での照合（SEEDS=1000、同じものをもう一度は SEED=17）"
	@echo "make bench      速度の測定（SIZE=100000 件）"
	@echo "make format     コードの整形"
	@echo "make lock       依存関係の固定（UPGRADE=1 で更新）"
	@echo "make audit      依存パッケージの既知の脆弱性の確認"
	@echo "make clean      .venv とキャッシュの削除（データは消えません）"
