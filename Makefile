# Two commands do everything on a fresh Debian 12 machine with a Rust toolchain: `make demo` and `make test`.

BUILD_PACKAGES = clang llvm m4 libelf-dev zlib1g-dev libpcap-dev pkg-config make gcc libc6-dev
RUN_PACKAGES   = iproute2 procps ethtool iputils-ping iperf3 tesseract-ocr fonts-dejavu-core
TEST_PACKAGES  = tshark bpftool util-linux python3
BENCH_PACKAGES = dpdk-dev

CARGO ?= cargo
SUDO  := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: all build bench demo test nightly tdc fuzz unit root-test fmt clippy install-packages install-test-packages clean

all: build

build: install-packages
	$(CARGO) build --release

demo: build
	$(SUDO) ./target/release/viscum lab demo $(DEMO_ARGS)

# Every path side by side on this machine, dpdk-testpmd among them; writes bench/results/DATE/report.{json,html}. Under 15 minutes.
bench: build
	@.ci/packages $(BENCH_PACKAGES)
	bench/standard $(BENCH_ARGS)

test: install-packages install-test-packages
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) build
	$(CARGO) test

# The kernel's own tests of tc with `viscum tc` in its place; fetches them from Debian's linux-source-6.1.
tdc: build install-test-packages
	$(SUDO) tests/tdc/run

# Input that breaks it: FUZZ_SECONDS for each target. The corpus in tests/fuzz is replayed by `make test`.
fuzz: install-packages
	tests/fuzz/run

# What takes longer than a change should wait for: random rules beside this machine's own kernel.
nightly: install-packages install-test-packages
	VISCUM_RULE_SETS=20000 VISCUM_SEED=$$(date +%s) $(CARGO) test --test suite -- --nocapture differential

install-packages:
	@.ci/packages $(BUILD_PACKAGES) $(RUN_PACKAGES)

install-test-packages:
	@.ci/packages $(TEST_PACKAGES)

clean:
	$(CARGO) clean
