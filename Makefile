# A short front for CMake: `make` leaves the program at build/snug. `make help` lists the rest.
BUILD      ?= build
BUILD_TYPE ?= Release
PREFIX     ?= /usr/local
JOBS       ?= $(shell nproc 2>/dev/null || echo 2)
SNUG        = $(BUILD)/snug
ASAN_BUILD  = $(BUILD)-asan
TSAN_BUILD  = $(BUILD)-tsan
MPI_BUILD   = $(BUILD)-mpi
NEON_BUILD  = $(BUILD)-neon

.DEFAULT_GOAL := all
.PHONY: all help deps test-deps configure lib demo test test-build asan tsan mpi neon install examples bench clean

all: configure ## build the program (build/snug) and the library
	@cmake --build $(BUILD) -j $(JOBS) --target snug_cli snug

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

deps: ## install the Debian packages that are missing (root or sudo)
	@tools/debian-packages.sh build

test-deps:
	@tools/debian-packages.sh test

configure: deps
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_ARGS) >$(BUILD).log 2>&1 \
	  || { cat $(BUILD).log; rm -f $(BUILD).log; exit 1; }; rm -f $(BUILD).log

demo: all ## fit the demo model into 30 % of its size, judge it, let it write
	@tools/demo.sh $(SNUG)

examples: configure ## build the example programs
	@cmake --build $(BUILD) -j $(JOBS)

# One CTest run over two builds: Release, and AddressSanitizer + UndefinedBehaviorSanitizer (tests named asan/...).
# In CI (CI=true) a skipped interoperation test is a failure.
test: test-build ## build both variants and run every test
	@cd $(BUILD) && $(if $(filter true,$(CI)),SNUG_REQUIRE_INTEROP=1) ctest --output-on-failure -j $(JOBS) $(CTEST_ARGS)

test-build: test-deps asan
	@tests/venv.sh $(BUILD)/venv tests/interop/requirements.txt tests/interop/templates.txt
	@python=$(abspath $(BUILD))/venv/bin/python3; [ -x $$python ] || python=$$(command -v python3); \
	  cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DCMAKE_INSTALL_PREFIX=$(PREFIX) \
	  -DSNUG_ASAN_BUILD=$(abspath $(ASAN_BUILD)) -DSNUG_INTEROP_PYTHON=$$python $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)

asan: test-deps ## a build with AddressSanitizer and UndefinedBehaviorSanitizer in build-asan
	@cmake -S . -B $(ASAN_BUILD) -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSNUG_SANITIZE=ON $(CMAKE_ARGS)
	@cmake --build $(ASAN_BUILD) -j $(JOBS)

tsan: ## run what has threads under ThreadSanitizer, in build-tsan (installs clang and libomp-14-dev)
	@tools/debian-packages.sh tsan
	@cmake -S . -B $(TSAN_BUILD) -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSNUG_TSAN=ON $(CMAKE_ARGS)
	@cmake --build $(TSAN_BUILD) -j $(JOBS)
	@tests/tsan/run.sh $(TSAN_BUILD)

mpi: ## build with MPI and test that several processes share a fit, in build-mpi (installs OpenMPI)
	@tools/debian-packages.sh mpi
	@cmake -S . -B $(MPI_BUILD) -G Ninja -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DSNUG_MPI=ON $(CMAKE_ARGS)
	@cmake --build $(MPI_BUILD) -j $(JOBS) --target snug_cli
	@cd $(MPI_BUILD) && ctest --output-on-failure -R '^cli_mpi$$' $(CTEST_ARGS)

neon: ## check the NEON kernels against the reference under qemu, in build-neon (installs an AArch64 compiler and qemu-user)
	@tools/debian-packages.sh neon
	@cmake -S tests/neon -B $(NEON_BUILD) -G Ninja -DCMAKE_TOOLCHAIN_FILE=$(abspath cmake/aarch64-linux-gnu.cmake)
	@cmake --build $(NEON_BUILD) -j $(JOBS)
	@cd $(NEON_BUILD) && ctest --output-on-failure -j $(JOBS) $(CTEST_ARGS)

bench: all ## the measurements behind bench/RESULTS.md (long)
	@bench/run.sh $(SNUG)

install: all examples ## install into PREFIX (default /usr/local); DESTDIR is honoured
	@cmake --install $(BUILD)

clean: ## remove the build folders
	@rm -rf $(BUILD) $(ASAN_BUILD) $(TSAN_BUILD) $(MPI_BUILD) $(NEON_BUILD)
