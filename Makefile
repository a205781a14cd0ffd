# `make` lists the targets. `make TARGET NAME=value` hands over to the command of that name in scripts/commands/, which
# says what it takes: make TARGET HELP=1.
#
# Nothing that a person types is run as a command: no recipe contains any of it. For the same reason make itself must not
# expand what is given on its command line, as it would to export it:
$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),\
  $(eval override $(name) := $$(value $(name)))$(eval export $(name))))
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
override SHELL := /bin/sh
override PY := .venv/bin/python
override PYTHONPATH := function:.
override MAKE_GOALS := $(MAKECMDGOALS)
export PYTHONPATH MAKE_GOALS

override COMMANDS := $(shell sed -n 's/^  \([a-z-]*\) .*/\1/p' scripts/commands/index.txt)

# -n, -t and -q let make run nothing, and end as if all were well.
override SHORT_FLAGS := $(filter-out --%,$(firstword -$(MAKEFLAGS)))
ifneq (,$(strip $(foreach flag,n t q,$(findstring $(flag),$(SHORT_FLAGS)))))
$(info make runs nothing with -n, -t or -q; the dry run of the bot is: make run MODE=dry-run)
endif

# What is needed to try the bot is installed in seconds; everything else needs the tools of a developer too.
override TRY := run replay verify clean backtest sweep compare lookahead rule check-rule
$(TRY): .venv/.set-up
$(filter-out $(TRY),$(COMMANDS)): .venv/.set-up-dev
$(COMMANDS):
	@$(PY) -m scripts.make $@

# Any other word. It is not in the recipe: scripts.make reads it from MAKE_GOALS. Of a folder, make itself would say that
# there is nothing to be done.
override FOLDERS := function requirements rules scripts terraform tests
.DEFAULT $(FOLDERS):
	@[ -x $(PY) ] || { echo 'make: there is no such target; plain make lists all targets' >&2; exit 2; }
	@$(PY) -m scripts.make

.venv/.set-up: requirements/run.txt requirements/uv.txt .python-version scripts/setup.sh
	@scripts/setup.sh run
	@touch $@

.venv/.set-up-dev: requirements/dev.txt requirements/uv.txt .python-version scripts/setup.sh
	@scripts/setup.sh dev
	@touch .venv/.set-up $@

help:
	@printf 'usage: make TARGET [NAME=value ...]\n       make TARGET HELP=1 shows what a target takes\n\n'
	@cat scripts/commands/index.txt

.PHONY: $(COMMANDS) $(FOLDERS) help
