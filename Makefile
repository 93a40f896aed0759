# make help shows what there is.
#
# The tests and the demo need real BEAM nodes. They are installed into
# DEBUGHOST_OTP when first needed, without root; set it to share one directory
# between several checkouts.

SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c
export DEBUGHOST_OTP ?= $(CURDIR)/.otp
# No C compiler is needed, but for the race detector.
export CGO_ENABLED := 0

PREFIX  ?= /usr/local
DESTDIR ?=
# Where Debian has systemd look for the units of the administrator's programs.
UNITDIR ?= $(PREFIX)/lib/systemd/system

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PLUGINS   := discovery-epmd discovery-gossip \
	placement-quorum placement-random placement-resources placement-uniform \
	sandbox-beam sandbox-process
FUZZTIME  ?= 30s
BENCHTIME ?= 1s
BENCH     ?= .
SOAK      ?= 10m
SEED      ?= 0
TESTS     ?= ./...
FAULT     ?= mailbox

# One static file, the same from every directory; grpc without the tracing
# package, which keeps the linker from dropping unused code.
GOBUILD = go build -trimpath -tags grpcnotrace \
	-ldflags "-s -w -X main.version=$(VERSION)"
GOTESTSUM = go tool gotestsum --format pkgname-and-test-fails
# Packages whose tests run at once. Most tests wait, for nodes and for times to be
# over; go's own choice, one a processor, leaves processors idle.
PACKAGES  ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
# With RERUNS=n up to five tests that fail are run up to n more times, and
# build/*-reruns.txt tells which: a test that passes then is not sound, but does
# not hold up what it has nothing to do with. A data race always fails.
RERUNS    ?= 0
RERUN      = $(if $(filter-out 0,$(RERUNS)),--rerun-fails=$(RERUNS) --rerun-fails-max-failures=5 \
	--rerun-fails-abort-on-data-race --rerun-fails-report $(1))

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 14

.PHONY: build
build: ## bin/debughost, with its plugins beside it
	$(GOBUILD) -o bin/debughost ./cmd/debughost
	$(GOBUILD) -o bin/debughost-plugins ./plugins
	@for p in $(PLUGINS); do ln -sfn debughost-plugins bin/$$p; done

.PHONY: install
install: build ## into PREFIX (default /usr/local), below DESTDIR
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib/debughost/plugins share/doc/debughost \
		share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d) \
		$(DESTDIR)$(UNITDIR)
	install bin/debughost $(DESTDIR)$(PREFIX)/bin/debughost
	install bin/debughost-plugins $(DESTDIR)$(PREFIX)/lib/debughost/plugins/
	for p in $(PLUGINS); do ln -sfn debughost-plugins $(DESTDIR)$(PREFIX)/lib/debughost/plugins/$$p; done
	install -m 644 config.toml $(DESTDIR)$(PREFIX)/share/doc/debughost/config.toml
	sed 's|@PREFIX@|$(PREFIX)|' packaging/debughost.service > $(DESTDIR)$(UNITDIR)/debughost.service
	bin/debughost completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/debughost
	bin/debughost completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_debughost
	bin/debughost completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/debughost.fish

.PHONY: demo
demo: build ## show debughost on a small Elixir system, until Ctrl-C; FAULT=mailbox, leak, loop or slow
	@go build -o build/demo ./test/demo
	@exec build/demo -fault $(FAULT)

.PHONY: otp
otp: ## install OTP 25, 27 and 29 for the tests
	@tools/otp.sh

.PHONY: test-deps
test-deps: otp
	@tools/need.sh ip=iproute2 iptables=iptables cc=gcc+libc6-dev

.PHONY: test
test: build test-deps ## all tests; TESTS=./erl/... for some
	@mkdir -p build
	$(GOTESTSUM) --jsonfile build/test.json $(call RERUN,build/test-reruns.txt) --packages '$(TESTS)' -- -p $(PACKAGES) -timeout 10m

.PHONY: test-race
test-race: build test-deps ## all tests under the race detector
	@tools/need.sh cc=gcc+libc6-dev
	CGO_ENABLED=1 $(GOTESTSUM) --jsonfile build/test-race.json $(call RERUN,build/test-race-reruns.txt) --packages '$(TESTS)' -- -race -timeout 20m

.PHONY: cover
cover: build test-deps ## coverage by package; fails under 90 % in the libraries
	@mkdir -p build
	$(GOTESTSUM) -- -timeout 15m -coverprofile build/cover.out \
		-coverpkg ./erl/...,./sdk/...,./host/...,./control/... $(TESTS)
	tools/cover.sh build/cover.out

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 30s) each
	tools/fuzz.sh $(FUZZTIME)

.PHONY: soak
soak: test-deps ## random faults in a cluster for SOAK (default 10m); SEED=n repeats a run
	go test -tags soak -run TestSoak -v -timeout 0 ./test/cluster -soak $(SOAK) -seed $(SEED)

.PHONY: trial
trial: ## debughost on a RabbitMQ from Debian's packages, which it installs
	@tools/need.sh rabbitmqctl=rabbitmq-server amqp-publish=amqp-tools
	go test -tags trial -count 1 -v ./test/rabbitmq

.PHONY: bench
bench: build otp ## the benchmarks behind docs/benchmarks.md; BENCH=regexp for some
	@mkdir -p build
	go test -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -timeout 60m $(TESTS) | tee build/bench.txt

.PHONY: generate
generate: ## the Go of the .proto files and the compiled helper module
	@tools/need.sh protoc=protobuf-compiler+libprotobuf-dev
	@tools/otp.sh 25
	go generate ./...

.PHONY: check
check: ## format, vet, staticcheck, go.mod, generated files
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not gofmt'd: $$files"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	@tools/need.sh protoc=protobuf-compiler+libprotobuf-dev
	@tools/otp.sh 25
	tools/check-generated.sh

.PHONY: clean
clean: ## remove what was built; OTP stays
	rm -rf bin build
