# docker-cache: `make help` lists what there is.

STACK ?= dev
YES ?=
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
YES_FLAG := $(if $(filter-out 0 no false,$(YES)),--yes)
# A variable of make's command line as an option; one of the environment, such as KUBECONFIG, is not meant for us.
given = $(if $(filter command,$(origin $1)),--$2 '$($1)')

.DEFAULT_GOAL := help
.PHONY: help new import up preview check heal proof prefetch gc takeover down test test-all test-unit test-end-to-end tools lint clean

help: ## this list
	@echo "usage: make TARGET [STACK=dev] [YES=1]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "STACK=dev is a sandbox on this machine. Any other is a cluster of yours, described in Pulumi.<stack>.yaml."
	@echo "YES=1 answers pulumi's question before it changes a cluster of yours."

up: $(VENV)/.ready ## bring the stack up and prove it on every node
	@$(RUN) operations up --stack $(STACK) $(YES_FLAG)

preview: $(VENV)/.ready ## show what `make up` would change
	@$(RUN) operations preview --stack $(STACK)

check: $(VENV)/.ready ## what would be in the way on the nodes, and what has drifted; changes nothing: [NODES=a,b] [JSON=1]
	@$(RUN) operations check --stack $(STACK) $(call given,NODES,nodes) $(if $(filter-out 0 no false,$(JSON)),--json)

heal: $(VENV)/.ready ## do the nodes that have drifted anew, or those named: [NODES=a,b]
	@$(RUN) operations heal --stack $(STACK) $(YES_FLAG) $(call given,NODES,nodes)

proof: $(VENV)/.ready ## pull an image on every node, counted at the cache
	@$(RUN) operations proof --stack $(STACK)

prefetch: $(VENV)/.ready ## fetch images into the cache now: [IMAGE=a,b] [PLATFORMS=linux/amd64,linux/arm64]; else those of docker_cache_prefetch
	@$(RUN) operations prefetch --stack $(STACK) $(call given,IMAGE,images) $(call given,PLATFORMS,platforms)

gc: $(VENV)/.ready ## remove from the cache's disk now what its bounds and its images leave over
	@$(RUN) operations gc --stack $(STACK)

new: $(VENV)/.ready ## a stack for another cluster: make new STACK=prod [SECRETS_PROVIDER=azurekeyvault://…]
	@$(RUN) operations new --stack $(STACK) $(if $(SECRETS_PROVIDER),--secrets-provider '$(SECRETS_PROVIDER)')

import: $(VENV)/.ready ## a stack from OpenPAI's and kubespray's files: make import STACK=prod FOLDER=… (docs/import.md)
	@$(RUN) operations import --stack $(STACK) $(YES_FLAG) $(if $(filter 0 no false,$(SCAN)),--no-scan) \
		$(call given,CONFIG,config) $(call given,LAYOUT,layout) $(call given,HOSTS,hosts) $(call given,FOLDER,folder) \
		$(call given,CLUSTER_ID,cluster-id) $(call given,KUBECONFIG,kubeconfig) $(call given,KUBE_CONTEXT,kube-context)

takeover: $(VENV)/.ready ## move a cluster over from OpenPAI's own docker-cache
	@$(RUN) operations takeover --stack $(STACK) $(YES_FLAG)

down: $(VENV)/.ready ## take the stack back from nodes and cluster (and end the sandbox)
	@$(RUN) operations down --stack $(STACK) $(YES_FLAG)

test: $(VENV)/.ready lint tools test-unit test-end-to-end ## linters, types, unit tests, end-to-end tests but the long ones

test-all: $(VENV)/.ready lint tools test-unit ## all of that, and the long ones
	@$(RUN) tests.end_to_end.run --all

test-unit: $(VENV)/.ready ## the fast loop
	@$(RUN) pytest tests/unit

test-end-to-end: $(VENV)/.ready tools ## end-to-end tests, in two sandboxes at a time
	@$(RUN) tests.end_to_end.run

tools: $(VENV)/.ready ## build what the sandbox and its tests need, where this machine can run it
	@if $(RUN) sandbox check 2>/dev/null; then $(RUN) sandbox tools; fi

lint: $(VENV)/.ready ## ruff, mypy, shellcheck, the nodes' Python version
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(VENV)/bin/shellcheck in_pod/*.sh sandbox/exec sandbox/kubectl sandbox/pulumi sandbox/upstream-stats .ci/run
	@$(VENV)/bin/vermin --quiet --no-tips --no-parse-comments -t=3.5- on_node

clean: down ## `make down`, and remove the virtual environment
	@rm -rf $(VENV)

$(VENV)/.ready: requirements.txt requirements-dev.txt
	@echo "Installing the virtual environment (half a minute) …" >&2
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -qq --yes python3-venv >/dev/null; } || \
		{ echo "make: $(PYTHON) can't make virtual environments: install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
