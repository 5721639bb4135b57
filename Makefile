# Building needs Go and nothing else. "make help" lists the targets.

GO      ?= go
GOFLAGS ?= -trimpath
BIN     ?= maptrace

# "./..." passes over directories called testdata. Those beside packages are left out: versions
# of Go must build them that do not know what linters ask for.
PACKAGES = ./... ./testdata/bench ./testdata/fuzzkernel ./testdata/heaps/... ./testdata/kernels/... ./testdata/leaks ./testdata/leaks/goleak ./testdata/leaks/goserver ./testdata/runtests ./testdata/tool ./testdata/workload ./testdata/workload/gochurn

# The linters are pinned here; they come through the Go module proxy.
GOLANGCI_LINT = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# So is what makes packages. Newer ones need modules, for packages of Windows, that
# not every module proxy serves.
NFPM = $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0

# Where "make install" installs; DESTDIR, if given, is put before it.
PREFIX ?= /usr/local

# What "make generate" compiles the BPF programs with. Another major version
# gives other bytes, so check-generated insists on this one.
CLANG_MAJOR ?= 14
export BPF2GO_CC     ?= clang
export BPF2GO_STRIP  ?= llvm-strip
export BPF2GO_CFLAGS ?= -O2 -g -Wall -Wextra -Werror -mcpu=v3

# Runs, not seconds: go test now and then fails a fuzz test that it stops by the
# clock, with "context deadline exceeded" (golang.org/issue/75804).
FUZZTIME  ?= 50000x
BENCHTIME ?= 1s

.DEFAULT_GOAL := build

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./maptrace
	CGO_ENABLED=0 $(GO) build $(GOFLAGS) -ldflags='-s -w' -o $(BIN) ./cmd/maptrace

demo: build ## find the leak of a small program that is built in (needs root)
	./$(BIN) demo

# One package at a time, and three of its tests: several load the machine on purpose,
# and bound how long what they wait for may take.
test: ## run the tests, and say at the end which were skipped and why (those that trace need root)
	$(GO) run ./testdata/runtests -p 1 -parallel 3 -timeout 30m $(PACKAGES)

# What runs programs, ours too, is left out, as they are built without it, and so are
# the long comparisons of names and tables, which have one goroutine each, what
# measures time, the calls that are too many for a slower reader, and the packages that
# know of no goroutines at all.
UNRACED = /(procmaps/(table|units)|tracer/(attribution|budget|event|goheap|growth|heap|keeper|latency|malloc|model|resident|site|space|stack))$$
test-race: ## the same with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -skip 'OfPmap|TestReal|Agree|ByNm|Addr2line|TakeNoTime|CostLittle|AmidRefusedCalls|FromTheFirstInstruction|GoHeapsAre' $$($(GO) list ./... | grep -Ev '$(UNRACED)')

test-long: ## 30 seeds of the exactness test, 200 of the verdicts, every real program (minutes)
	MAPTRACE_LONG=1 $(GO) test -count=1 -timeout 60m -run 'Exact|Real|Innocent' -v ./tracer/...

accounts: ## what grow explains of real programs, beside the kernel's own figures (needs root, and the programs; 10 minutes)
	MAPTRACE_LONG=1 $(GO) test -count=1 -timeout 30m -run AccountsOfReal -v ./cmd/maptrace

screens: ## what grow shows of real programs that leak, on a terminal of 80x24 (needs root, and the programs; 15 minutes)
	MAPTRACE_LONG=1 $(GO) test -count=1 -timeout 30m -run ScreensOfReal -v ./cmd/maptrace

# How long each program is watched, and how many right names are wanted.
HEAPS_FOR   ?= 25s
HEAPS_RIGHT ?= 0
heaps: build ## who is said to keep the heap of 40 programs, and who does (needs root, a C compiler; 10 minutes)
	$(GO) run ./testdata/heaps/confusion -maptrace ./$(BIN) -for $(HEAPS_FOR) -right $(HEAPS_RIGHT)

test-faults: ## every fault often, and the figures of 40 programs: killed 200 times, 2,000 processes, 1,000 threads (minutes)
	MAPTRACE_LONG=1 $(GO) test -count=1 -timeout 30m -run 'Killed|Storm|Thousand|ImageAfterImage|Silently|WantOfMemory|CannotBeWritten|FiguresAre' -v ./cmd/maptrace

soak: build ## half an hour on a busy mixture: memory flat, nothing lost
	$(GO) run ./testdata/bench -maptrace ./$(BIN) -only soak

node: build ## grow on 500 processes, on 100,000 short ones, on 1,000,000 stacks, and on 6,000,000 calls for one row: memory within its budget
	$(GO) run ./testdata/bench -maptrace ./$(BIN) -only node

test-kernels: ## the tests and a story on seven of Debian's kernels, emulated (needs qemu, apt, network)
	$(GO) run ./testdata/kernels

test-kernels-all: ## the same on every kernel of testdata/kernels/table.txt
	$(GO) run ./testdata/kernels -all

bench: build ## overhead, beside strace, perf and bpftrace where installed (needs root, a C compiler)
	$(GO) run ./testdata/bench -maptrace ./$(BIN)

bench-pmap: build ## pmap's tables beside pmap itself (needs a C compiler)
	$(GO) run ./testdata/bench -maptrace ./$(BIN) -only pmap

bench-go: ## the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -benchmem ./...

fuzz: ## run every fuzz test FUZZTIME
	@set -e; for f in $$(grep -rl '^func Fuzz' --include='*_test.go' .); do \
		for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$f); do \
			echo "$$t in $$(dirname $$f)"; \
			$(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$(dirname $$f); \
		done; \
	done

fuzz-kernel: build ## an hour of random programs: what maptrace says of each is what the kernel says (needs root, a C compiler)
	$(GO) run ./testdata/fuzzkernel -maptrace ./$(BIN) -for 1h -go-on

cover: ## coverage of the tests, as an HTML page
	$(GO) test -coverprofile=coverage.out ./... && $(GO) tool cover -html=coverage.out

lint: cross ## go vet, golangci-lint, module file, formatting of Go and C
	$(GO) vet $(PACKAGES)
	$(GO) vet -tags manual ./cmd/maptrace
	$(GOLANGCI_LINT) run $(PACKAGES)
	$(GOLANGCI_LINT) run --build-tags manual ./cmd/maptrace/...
	$(GO) mod tidy -diff
	@if command -v clang-format >/dev/null; then \
		clang-format --dry-run -Werror bpf/*.c bpf/*.h testdata/*/*.c testdata/*/*.cc testdata/*/*.h; \
	else echo "clang-format is not installed: C formatting not checked"; fi

# Packages that know neither BPF nor how Linux is asked for things: they read text and
# judge it, wherever that comes from.
PORTABLE = ./procmaps/... ./cmd/mkdist ./cmd/maptrace/docs ./cmd/maptrace/internal/getopt ./cmd/maptrace/internal/manual ./cmd/maptrace/internal/render \
	$(addprefix ./tracer/,attribution budget crash event explain export goheap growth heap keeper latency malloc model order resident site space stack symbol)

cross: ## compile for other machines: all for arm64 and, without the programs, riscv64; what is portable for macOS
	GOARCH=arm64 $(GO) vet ./...
	GOARCH=riscv64 $(GO) build ./...
	GOARCH=riscv64 $(GO) vet $(PORTABLE)
	GOOS=darwin $(GO) vet $(PORTABLE)

fmt: ## format Go and C
	$(GOLANGCI_LINT) fmt $(PACKAGES)
	clang-format -i bpf/*.c bpf/*.h testdata/*/*.c testdata/*/*.cc testdata/*/*.h

generate: ## compile the BPF programs and make their Go bindings (needs clang 14)
	$(GO) generate .

check-generated: ## the committed objects are what the sources give
	@if ! $(BPF2GO_CC) --version 2>/dev/null | grep -q 'version $(CLANG_MAJOR)\.'; then \
		echo "clang $(CLANG_MAJOR) is not installed: generated objects not checked"; \
		test -z "$$CI"; \
	else \
		$(GO) generate . && git diff --exit-code --stat -- bpf; \
	fi

check: lint check-generated test test-race fuzz ## what is to pass before a change is sent, but for the kernels

dist: ## make ./dist: binaries, archives, packages and what belongs to them, for both architectures
	$(GO) run ./cmd/mkdist -nfpm "$(NFPM)"

check-dist: ## make dist twice from the last commit, in other places: no byte may differ (minutes)
	MAPTRACE_DIST=1 NFPM="$(NFPM)" $(GO) test -count=1 -timeout 60m -run Reproducible -v ./cmd/mkdist

test-packages: dist ## install ./dist's packages in a fresh Debian and run them (needs root, debootstrap; minutes)
	MAPTRACE_PACKAGES=1 $(GO) test -count=1 -timeout 30m -run Packages -v ./cmd/mkdist

share: ## manual pages and shell completions, into ./dist/share
	$(GO) run -tags manual ./cmd/maptrace dist/share

# Neither is made again if it is there and no source is newer: root may have no Go.
SOURCES = go.mod go.sum $(shell find bpf cmd procmaps tracer -name '*.go' -o -name '*.o' -o -name '*.md')

$(BIN): $(SOURCES)
	@$(MAKE) --no-print-directory build

dist/share/man/man1/maptrace.1: $(SOURCES)
	@$(MAKE) --no-print-directory share

install: $(BIN) dist/share/man/man1/maptrace.1 ## install under PREFIX (/usr/local): program, manual pages, completions
	install -D -m 755 $(BIN) "$(DESTDIR)$(PREFIX)/bin/maptrace"
	@set -e; for f in $$(cd dist/share && find * -type f); do \
		echo "$(DESTDIR)$(PREFIX)/share/$$f"; \
		install -D -m 644 "dist/share/$$f" "$(DESTDIR)$(PREFIX)/share/$$f"; \
	done

uninstall: ## remove what "make install" installed
	cd "$(DESTDIR)$(PREFIX)" && rm -f bin/maptrace share/man/man1/maptrace.1 share/man/man1/maptrace-*.1 share/man/man7/maptrace-*.7 \
		share/bash-completion/completions/maptrace share/zsh/site-functions/_maptrace \
		share/fish/vendor_completions.d/maptrace.fish

clean: ## remove what was built
	rm -rf $(BIN) coverage.out dist

.PHONY: help build demo test test-race test-long accounts screens heaps test-faults soak node test-kernels test-kernels-all bench bench-pmap bench-go fuzz fuzz-kernel cover lint cross fmt generate check-generated check dist check-dist test-packages share install uninstall clean
