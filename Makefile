# Habits on top of meson: `make`, `make demo`, `make test`, `make bench`, `make install`.
#
#   make            build what this machine can: the command is build/varve (no engine yet: the store alone)
#   make demo       set up, build and show: the store first, the engine's part after
#   make test       set up, build with warnings as errors, run everything; the last line says how many passed
#   make test-long  the same and the long tests, three quarters of an hour; what the machine lacks is skipped, and told
#   make test-asan  with AddressSanitizer and UBSan    make test-torture   with tiny segments, tables and caches
#   make crash      what survives: kills, lost writes, faults, damage, full disks; with counts (part of make test)
#   make crash-plant  plant known bugs, one after the other: each must be found, and none in the sound build
#   make notes      the design notes step by step: the files that they show, beside those that there are
#   make fuzz       TARGET=revision: libFuzzer, a minute unless ARGS say otherwise
#   make bench      measure against the floor         make bench ARGS=--quick
#   make install    PREFIX=... DESTDIR=...            make format, make lint, make clean
#
# What is missing is brought in by tools/setup.sh; see there for where it goes and how to be asked first.
BUILD = build
PREFIX = /usr/local
ARGS =
NINJA = ninja
setup = tools/setup.sh
configure = tools/configure.sh

all:
	@$(configure) $(BUILD) build auto
	@$(NINJA) -C $(BUILD) product

# The store needs no engine: it shows within seconds what it does, while most machines still lack the rest.
demo:
	@$(setup) store
	@$(configure) $(BUILD)-store demo disabled -Dtests=disabled
	@$(NINJA) -C $(BUILD)-store --quiet product
	@VARVE_BUILD=$(BUILD)-store tools/demo.sh store
	@$(setup) engine modules
	@$(configure) $(BUILD) build enabled
	@$(NINJA) -C $(BUILD) --quiet product
	@VARVE_BUILD=$(BUILD) tools/demo.sh vm

test:
	@$(setup) store engine modules tests spec
	@$(configure) $(BUILD) test enabled -Dtests=enabled -Dwerror=true -Ddefault_library=both
	@tools/test.sh $(BUILD) --no-suite long $(ARGS)

test-long:
	@$(setup) store engine modules tests spec
	@$(setup) long || echo 'test-long: what could not be installed will be skipped' >&2
	@$(configure) $(BUILD) test enabled -Dtests=enabled -Dwerror=true -Ddefault_library=both
	@tools/test.sh $(BUILD) --num-processes $$(($$(nproc) + 1)) $(ARGS)

test-asan:
	@$(setup) store tests
	@$(configure) $(BUILD)-asan test auto -Dtests=enabled -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false
	@tools/test.sh $(BUILD)-asan --no-suite long --timeout-multiplier 8 $(ARGS)

test-torture:
	@$(setup) store tests
	@$(configure) $(BUILD)-torture test auto -Dtests=enabled -Dwerror=true -Dtorture=true
	@tools/test.sh $(BUILD)-torture --no-suite long $(ARGS)

crash:
	@$(setup) store tests
	@$(configure) $(BUILD) test auto -Dtests=enabled -Dwerror=true -Ddefault_library=both
	@$(NINJA) -C $(BUILD) --quiet
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs --suite crash --suite layout $(ARGS) || true
	@tools/crash.py $(BUILD)/meson-logs/testlog.json

# A build folder of its own, with the bugs compiled in; tools/plant.py has the list. ARGS: names of some, --all.
crash-plant:
	@$(setup) store tests
	@$(configure) $(BUILD)-plant plant disabled -Dtests=enabled -Dwerror=true -Dplant=true
	@$(NINJA) -C $(BUILD)-plant --quiet crash-programs
	@tools/plant.py $(BUILD)-plant $(ARGS)

notes:
	@$(setup) store engine modules
	@$(configure) $(BUILD) build enabled
	@$(NINJA) -C $(BUILD) --quiet product
	@tools/notes.py $(BUILD) "$$($(setup) where modules)" $(ARGS)

# libFuzzer (clang): make fuzz TARGET=revision ARGS=-max_total_time=600. New inputs stay in the build folder.
fuzz:
	@CC=clang $(configure) $(BUILD)-fuzz fuzz auto -Dfuzz=true -Dtests=disabled -Db_lundef=false
	@$(NINJA) -C $(BUILD)-fuzz fuzz/fuzz_$(TARGET)
	@mkdir -p $(BUILD)-fuzz/found/$(TARGET)
	@$(BUILD)-fuzz/fuzz/fuzz_$(TARGET) -max_total_time=60 $(ARGS) $(BUILD)-fuzz/found/$(TARGET) fuzz/corpus/$(TARGET)

bench:
	@$(setup) store engine modules bench
	@$(configure) $(BUILD) build enabled
	@$(NINJA) -C $(BUILD) --quiet product
	@$(BUILD)/varve-bench $(ARGS)

install:
	@$(configure) $(BUILD) install auto --prefix=$(PREFIX) -Ddefault_library=both
	@meson install -C $(BUILD)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

lint:
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror
	@tools/floors.py

clean:
	rm -rf $(BUILD) $(BUILD)-store $(BUILD)-asan $(BUILD)-torture $(BUILD)-plant $(BUILD)-fuzz

.PHONY: all demo test test-long test-asan test-torture crash crash-plant notes fuzz bench install format lint clean
