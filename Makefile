# Plain `make` lists the targets. Variables given to make reach the commands as environment variables:
# make run PRICE_SOURCES=yahoo UNIVERSE=AAPL,MSFT
# Recipes use them only as the shell's own, quoted "$$NAME", so that no value is ever run as a command. For the same
# reason make itself must not expand what is given on its command line, as it would to export it:
$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),\
  $(eval override $(name) := $$(value $(name)))$(eval export $(name))))
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
override PY := .venv/bin/python
export PYTHONPATH := function:.

##@ Try it
run: .venv/.set-up ## Run the bot once, by default on sample prices and a paper account (AT=, MODE=, BROKER=, ...)
	@$(PY) -m scripts.run.local

replay: .venv/.set-up ## Recompute the decisions of a recorded run (RUN=latest, a slot, a file or s3://...)
	@$(PY) -m scripts.run.replay -- "$${RUN:-latest}"

##@ Backtest
backtest: .venv/.set-up ## Run the bot on past prices in Backtrader (START=, END=, CASH=, COMMISSION=, SLIPPAGE=, REFIT_EVERY=, OUT=, SIGNAL=, ...)
	@$(PY) -m scripts.backtest

sweep: .venv/.set-up ## Try many settings; the best of each span is judged on the next (GRID="NAME=1,2 ...", SAMPLES=, FOLDS=, SCHEDULER=)
	@$(PY) -m scripts.sweep

compare: .venv/.set-up ## Check that a backtest decides like make run, bar by bar (START=, END=)
	@$(PY) -m scripts.backtest.compare

lookahead: .venv/.set-up ## Check that no decision of a backtest uses future prices (START=, END=, CUTS=, SEED=)
	@$(PY) -m scripts.backtest.lookahead

bench-backtest: .venv/.set-up ## Measure the backtest against Prophet inside next(), and a sweep on one and two workers
	@$(PY) -m scripts.bench.backtests

##@ For Lambda
layer: .venv/.set-up ## Build the layer with Prophet in it and verify it (ARCH=x86_64|arm64, PYTHON=3.13|3.14, JSON=1)
	@$(PY) -m scripts.layer.build

verify-layer: .venv/.set-up ## Run the function from the finished layer again (ARCH=, PYTHON=, JSON=1)
	@$(PY) -m scripts.layer.verify

package: .venv/.set-up ## Zip the function itself (JSON=1)
	@$(PY) -m scripts.layer.package

bench-layer: .venv/.set-up ## Measure the layer against a plain `pip install`: bytes, imports, init
	@$(PY) -m scripts.bench.layers

##@ Deploy to AWS
secrets: .venv/.set-up ## Ask for each strategy's Alpaca keys and store them in SSM (STRATEGY=; or take them from ALPACAUSER, ALPACAPW)
	@$(PY) -m scripts.cloud.secrets

plan: .venv/.set-up ## Show what a deployment would change (OUT=file saves the plan)
	@$(PY) -m scripts.cloud.plan

deploy: .venv/.set-up ## Build what is missing, and apply terraform/ to AWS (PLAN=file applies that saved plan)
	@$(PY) -m scripts.cloud.deploy

bootstrap: .venv/.set-up ## Create, once per account, a bucket for Terraform's state and GitHub's roles (REPOSITORY=, BRANCH=)
	@$(PY) -m scripts.cloud.bootstrap

destroy: .venv/.set-up ## Delete everything that was deployed; asks first (KEEP_JOURNAL=folder)
	@$(PY) -m scripts.cloud.destroy

##@ Operate
invoke: .venv/.set-up ## Run a strategy's function now and show what it did (STRATEGY=, EVENT=)
	@$(PY) -m scripts.cloud.invoke

logs: .venv/.set-up ## Query the logs (QUERY=orders, SINCE=1d, STRATEGY=); plain `make logs` lists the queries
	@$(PY) -m scripts.cloud.logs

tail: .venv/.set-up ## Follow the log (STRATEGY=, SINCE=10m)
	@$(PY) -m scripts.cloud.tail

halt: .venv/.set-up ## Stop trading: all strategies, or STRATEGY=
	@$(PY) -m scripts.cloud.halt halt

resume: .venv/.set-up ## Let a strategy trade again (STRATEGY=name, or all)
	@$(PY) -m scripts.cloud.halt resume

reconcile: .venv/.set-up ## Compare the journal with the broker's orders, and record runs that were cut off (STRATEGY=, SINCE=7d, LOCAL=1)
	@$(PY) -m scripts.run.reconcile

rollback: .venv/.set-up ## Go back to an older version of a strategy's function (STRATEGY=, VERSION=)
	@$(PY) -m scripts.cloud.rollback

cost: .venv/.set-up ## Show how much of the free tier is used: from the logs, or estimated if there are none
	@$(PY) -m scripts.cloud.cost

bench-cost: .venv/.set-up ## Measure a month's use: 30 strategies must fit into Lambda's free tier
	@ESTIMATE=1 $(PY) -m scripts.cloud.cost --least 30

##@ Data
constituents: .venv/.set-up ## Refresh function/trader/data/constituents.csv and show what changed (SOURCE=auto|online|offline)
	@$(PY) -m scripts.data.constituents --source="$${SOURCE:-auto}"

sample-prices: .venv/.set-up ## Rebuild function/trader/data/sample_prices.csv.gz from its source
	@$(PY) -m scripts.data.sample_prices

terraform-files: .venv/.set-up ## Rebuild terraform/settings.json and the tables of Terraform's READMEs (after changing a setting)
	@$(PY) -m scripts.checks.terraform_files

picture: .venv/.set-up ## Draw the pages of make run and make backtest as docs/run.png and docs/backtest.png, with Chromium
	@scripts/picture.sh

##@ Develop
setup: .venv/.set-up ## Create .venv; every other target does this automatically
test: .venv/.set-up ## Run the tests (TESTS=tests/unit/trader/stages/test_portfolio_risk.py for some)
	@printf '%s\n' "$${TESTS:--m 'not slow'}" | xargs $(PY) -m pytest

test-slow: .venv/.set-up ## Run the slow tests: planted bugs, a damaged layer, and Terraform's own tests
	@$(PY) -m pytest -m slow

gauntlet: .venv/.set-up ## Run the deployed function through every fault, stories and random weeks (LONG=1, SEED=, JSON=1, MARKDOWN=1)
	@$(PY) -m tests.fault_injection

audit: .venv/.set-up ## Check the lock files, and all locked packages for known vulnerabilities and yanked releases (OFFLINE=1: locks only)
	@[ -n "$$OFFLINE" ] || scripts/linters.sh
	@$(PY) -m scripts.checks.audit

scan-secrets: .venv/.set-up ## Look for keys in every file of the repository and in the zips that go to AWS
	@$(PY) -m scripts.checks.scan_secrets

fuzz: .venv/.set-up ## Try many random inputs, for several minutes (EXAMPLES=2000 of each kind, SEED=)
	@EXAMPLES="$${EXAMPLES:-2000}" $(PY) -m pytest tests/security/test_fuzz.py --dist load --timeout 0 \
	--hypothesis-profile fuzz --hypothesis-seed="$${SEED:-random}"

lint: .venv/.set-up ## Check formatting, style, types and the direction of imports
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(dir $(PY))lint-imports --no-logo

lint-infra: .venv/.set-up ## Check Terraform, the workflows and the shell scripts
	@scripts/lint_infra.sh

format: .venv/.set-up ## Format the code and fix what can be fixed automatically
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

bench: .venv/.set-up ## Measure the forecast stage, memory, and 500 symbols from a Yahoo stand-in
	@$(PY) -m scripts.bench.forecast_stage

parity: .venv/.set-up ## Compare the engines: the map engine's models and decisions with Prophet's (PICTURE=file to draw them)
	@$(PY) -m scripts.bench.parity $${PICTURE:+"--picture=$$PICTURE"}

bench-engine: .venv/.set-up ## Measure the engines: time for 20, 100 and 500 symbols, memory, a whole backtest
	@$(PY) -m scripts.bench.engines

lock: .venv/.set-up ## Lock the requirements again, with hashes
	@scripts/lock.sh

clean: ## Remove the output of runs: journal, paper account, pages, the layer's parts
	rm -rf out layer/build

.venv/.set-up: requirements/dev.txt requirements/uv.txt .python-version scripts/setup.sh
	@scripts/setup.sh
	@touch $@

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; printf "usage: make TARGET [VARIABLE=value ...]\n"} \
	/^##@/ {printf "\n%s\n", substr($$0, 5)} \
	/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run replay backtest sweep compare lookahead bench-backtest layer verify-layer package bench-layer secrets plan deploy bootstrap destroy invoke logs tail halt resume reconcile rollback cost bench-cost constituents sample-prices terraform-files picture setup test test-slow gauntlet audit scan-secrets fuzz lint lint-infra format bench parity bench-engine lock clean help
