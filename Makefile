# SPDX-License-Identifier: Apache-2.0
# The two commands of the README, and short names for what Meson does. Meson is the build system.

BUILD ?= build
MESON ?= meson

.PHONY: all deps demo check bench install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

help:
	@echo "make demo      build, then watch programs and models share a GPU, simulated if there is none"
	@echo "make check     build, then run every test that needs no GPU"
	@echo "make bench     measure what the guard costs here, and how compute is divided"
	@echo "make           build into ./$(BUILD)"
	@echo "make install   install under /usr/local (PREFIX=... for elsewhere)"

deps:
	@tools/install-deps build

$(BUILD)/build.ninja:
	@tools/install-deps build
	@$(MESON) setup $(BUILD) >/dev/null || { cat $(BUILD)/meson-logs/meson-log.txt; exit 1; }

demo: all
	@tools/demo $(BUILD)

check:
	@tools/install-deps check
	@tools/check $(BUILD)

bench: all
	@bench/micro/run $(BUILD)
	@bench/micro/shares --build $(BUILD) --quick

PREFIX ?= /usr/local
install: all
	@$(MESON) configure $(BUILD) -Dprefix="$(PREFIX)"
	@$(MESON) install -C $(BUILD) --quiet
	@[ "$$(id -u)" != 0 ] || ldconfig
	@echo "installed under $(PREFIX)"

clean:
	rm -rf $(BUILD) build-asan build-tsan
