# Two commands do everything on a fresh Debian 12 machine with a Rust toolchain: `make demo` and `make test`.

BUILD_PACKAGES = clang llvm m4 libelf-dev zlib1g-dev pkg-config make gcc libc6-dev
RUN_PACKAGES   = iproute2 procps ethtool iputils-ping iperf3 tesseract-ocr fonts-dejavu-core
TEST_PACKAGES  = tshark bpftool util-linux

CARGO ?= cargo
SUDO  := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: all build demo test unit root-test fmt clippy install-packages install-test-packages clean

all: build

build: install-packages
	$(CARGO) build --release

demo: build
	$(SUDO) ./target/release/viscum lab demo $(DEMO_ARGS)

test: install-packages install-test-packages
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) build
	$(CARGO) test

install-packages:
	@.ci/packages $(BUILD_PACKAGES) $(RUN_PACKAGES)

install-test-packages:
	@.ci/packages $(TEST_PACKAGES)

clean:
	$(CARGO) clean
