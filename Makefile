# SPDX-License-Identifier: Apache-2.0
# A menu on top of CMake: bare `make` prints the choices. The work is done in scripts/.
.DEFAULT_GOAL := menu
.PHONY: menu build check demo test asan tsan fuzz format tidy coverage arm64 install bench

# GNU's name and the one that most people type.
PREFIX ?= /usr/local
prefix ?= $(PREFIX)

menu:
	@echo "make build     install what is missing and build build/release/sigmoe"
	@echo "make demo      train a small model on real text and look at it (about five minutes)"
	@echo "make check     build, layer check, all tests, coverage (what every change must pass)"
	@echo "make test      the tests of the release build only"
	@echo "make asan      the tests under the address and undefined-behaviour sanitizers"
	@echo "make tsan      the tests under the thread sanitizer"
	@echo "make fuzz      every fuzz target for a minute"
	@echo "make coverage  the tests, instrumented; line coverage of src/"
	@echo "make arm64     cross build and tests under qemu-user"
	@echo "make format    clang-format over all sources"
	@echo "make tidy      clang-format (check), cppcheck and clang-tidy"
	@echo "make bench     speed of kernels, ops, load statistics and the tokenizer"
	@echo "make install   into PREFIX=$(prefix) (DESTDIR is honoured)"

build:
	@scripts/build
check:
	@scripts/check
demo:
	@scripts/demo
test: build
	@scripts/run-tests release
asan tsan:
	@scripts/build $@
	@scripts/run-tests $@
fuzz:
	@scripts/fuzz
coverage:
	@scripts/coverage
arm64:
	@scripts/arm64
format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
tidy:
	@scripts/tidy
bench:
	@scripts/build bench
	@build/bench/bench/bench_kernels
	@build/bench/bench/bench_ops
	@build/bench/bench/bench_load
	@build/bench/bench/bench_tokenizer data/corpus/scripture/bible-kjv.txt
install: build
	@cmake --install build/release --prefix "$(prefix)"
