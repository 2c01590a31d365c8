# headroom: see README.md. `make demo` and `make test` are the two commands to
# know; the rest are parts of them.

SHELL := /bin/bash
GO    ?= go
# libvirt is loaded at run time: building needs gcc alone, and the binary starts
# where libvirt is absent.
TAGS  := libvirt_dlopen
BIN   := bin/headroom

export GOFLAGS := -tags=$(TAGS)

.PHONY: all build deps test unit demo lint fmt tidy generate verify-generate \
        lab-up lab-down fuzz bench-sampler bench-planner bench-faults bench-predict bench-mesh reference clean install

all: build

deps: ## install what is missing from Debian's packages
	@.ci/deps

build: ## build bin/headroom and bin/lab
	$(GO) build -o $(BIN) ./cmd/headroom
	$(GO) build -o bin/lab ./tests/lab/cmd/lab

# What a developer needs before pushing. The race detector runs where goroutines
# are; the pure folders have none. Packages that measure CPU time (eBPF, lab, end
# to end) run one after the other, so as not to share the machine with each other.
# Packages whose tests live in synctest bubbles run on one P each under the race
# detector: a bubble's timer channels are read under one race context by all Ps,
# which ends in a SIGSEGV inside the detector (golang/go#78156). Happens-before is
# checked all the same.
PURE     := ./predict/... ./planner/... ./tests/model/... ./tests/simulation/... ./tests/hygiene/... ./tests/bench/...
BUBBLED  := ./mesh ./agent ./agent/handover ./agent/hypervisor
PARALLEL  = $(shell $(GO) list ./agent/... ./cmd/... ./tests/cluster/... ./tests/demo/... ./tests/faults/... | grep -vE '/agent(/(handover|hypervisor))?$$')
MEASURED := ./bpf/... ./tests/lab/... ./tests/e2e/...

test: deps build ## all tests: units, properties, simulations, real eBPF, the lab end to end
	$(GO) vet ./...
	$(GO) test -shuffle=on -timeout 15m $(PURE)
	$(GO) test -race -cpu 1 -shuffle=on -timeout 15m $(BUBBLED)
	$(GO) test -race -shuffle=on -timeout 15m $(PARALLEL)
	$(GO) test -p 1 -shuffle=on -timeout 25m $(MEASURED)

unit: ## the tests that need no root
	$(GO) test -shuffle=on $(PURE)
	$(GO) test -race -cpu 1 -shuffle=on $(BUBBLED)
	$(GO) test -race -shuffle=on $(PARALLEL)

demo: deps ## three real hypervisors: contention foreseen, a VM moved before it comes
	@$(GO) build -o $(BIN) ./cmd/headroom
	@$(GO) run ./tests/demo -bin $(BIN)

lint: ## gofmt, vet, staticcheck, go.mod in order
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "run: make fmt"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

fmt:
	gofmt -w $$(git ls-files '*.go')

tidy:
	$(GO) mod tidy

generate: ## compile the BPF programs (needs clang 14)
	$(GO) generate ./bpf/... ./tests/bench/...

verify-generate: ## the committed BPF objects are what their sources give
	$(GO) generate ./bpf/... ./tests/bench/...
	@git diff --exit-code -- bpf tests/bench || { echo "the committed BPF objects differ from their sources: run make generate with clang 14 and commit"; exit 1; }

fuzz: ## each fuzz target for FUZZTIME (default 30s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$pkg || exit 1; \
	  done; done

bench-sampler: deps ## what sampling costs, beside the other ways; writes docs/SAMPLER.md
	$(GO) build -o bin/bench-sampler ./tests/bench/sampler
	bin/bench-sampler -doc docs/SAMPLER.md

# About ten seconds a fault, half a minute each whose Finish is not answered (FINISH=n
# with headroom and n without); FAULTS=n BARE=n MOVES=n FINISH=n for less.
bench-faults: deps build ## faults at every phase of a hand-over in the lab, timed moves; ends with a JSON line
	@$(GO) run ./tests/bench/faults -bin $(BIN) -out $${OUT:-bin/faults.jsonl} -faults $${FAULTS:-240} -bare $${BARE:-24} -moves $${MOVES:-15} -finish $${FINISH:-12}

lab-up: build ## a lab of N hosts by hand (N=3)
	bin/lab up $${N:-3}

lab-down: build ## remove every lab, also after a crash
	bin/lab down --all

install: build ## into DESTDIR: binary, unit file, example configuration
	install -D -m 0755 $(BIN) $(DESTDIR)/usr/bin/headroom
	install -D -m 0644 packaging/headroom.service $(DESTDIR)/lib/systemd/system/headroom.service
	install -D -m 0644 packaging/headroom.sysusers $(DESTDIR)/usr/lib/sysusers.d/headroom.conf
	install -D -m 0640 packaging/headroom.toml $(DESTDIR)/etc/headroom/headroom.toml

clean:
	rm -rf bin

TRACES ?= $(HEADROOM_TRACES)
bench-planner: ## policies on recorded traces (TRACES=DIR), CloudSim, hbal; ends with a JSON line (ARGS='-only hbal' for a part)
	@$(GO) run ./tests/bench/planner -traces "$(TRACES)" $(ARGS)

DATA ?= $(HEADROOM_TRACES)
bench-predict: ## forecasts beside R's forecast package on recorded traces (DATA=DIR, ARGS=-full); ends with a JSON line
	@.ci/deps bench-predict
	@$(GO) run ./tests/bench/predict -doc docs/FORECAST.md $(if $(DATA),-data $(DATA)) $(ARGS)

reference: ## R's reference values for predict anew (needs r-cran-forecast); git diff shows what changed
	@.ci/deps bench-predict
	@mkdir -p bin
	@for f in arima fits auto members; do Rscript tests/reference/$$f.R > bin/$$f.json && mv bin/$$f.json predict/testdata/ || exit 1; done

# The lab's part needs root and libvirt; MESH_LAB= leaves it out.
MESH_LAB ?= $(GO) run ./tests/bench/faults -bin $(BIN) -faults 20 -bare 0 -moves 5 -finish 2 -out bin/faults-short.jsonl
bench-mesh: build ## model, simulated fleets, herd, gossip, faults in the lab; ends with a JSON line
	@$(GO) run ./tests/bench/mesh -seeds $${SEEDS:-1000} -lab "$(MESH_LAB)"
