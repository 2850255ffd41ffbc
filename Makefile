PREFIX ?= /usr
FAULT ?= kill
TARGET = $(or $(CARGO_TARGET_DIR),target)
SBIN = $(DESTDIR)$(PREFIX)/sbin

# Anything but nothing: the program is static where that can be.
STATIC ?= yes

# What every test run takes beside this machine's own MariaDB.
ENGINES = mysql-5.7 mysql-9.7

.PHONY: help build test test-engines functions demo bench install lint fmt packages engines

help:
	@echo 'make build            the program, for release: target/release/hookbox'
	@echo 'make build STATIC=    the same with the C library of this machine'
	@echo 'make install          it goes to $(SBIN)/hookbox   (PREFIX, DESTDIR)'
	@echo 'make demo             a primary is killed under load and replaced, before your eyes; as root'
	@echo 'make demo FAULT=hang  or cut, or stop'
	@echo 'make bench            what hookbox costs, beside the usual clients; as root'
	@echo 'make bench PART=check, vip, sessions, promotion, mha or outage   that alone; RUNS=5 how often'
	@echo 'make bench BASELINE=DIR   beside that what the scripts in DIR cost'
	@echo 'make bench CHECK=1    exit 1 if an aim is missed; JSON=FILE the figures'
	@echo 'make bench DOCS=docs  writes the tables and plots of docs/performance.md anew'
	@echo 'make test             everything; as root also with real servers, keepalived and networks'
	@echo 'make test-engines     all six MySQL and MariaDB servers; writes docs/engines.md; as root'
	@echo 'make functions        lists anew what a check calls, so that it is put on few pages of memory'
	@echo 'make lint             formatting, clippy and documentation, warnings denied'
	@echo 'make fmt              formats the source'

build:
	@STATIC=$(STATIC) scripts/build

# A missing check is a success to keepalived, so the program is never away: one file takes the place
# of the other at once.
install: build
	install -d $(SBIN)
	install -m 755 $(TARGET)/release/hookbox $(SBIN)/.hookbox.new
	mv -f $(SBIN)/.hookbox.new $(SBIN)/hookbox

demo: packages
	cargo build --quiet --locked --bin hookbox --example demo
	@FAULT=$(FAULT) $(TARGET)/debug/examples/demo

bench: packages build
	cargo build --quiet --locked --release --example bench
	@PART=$(PART) BASELINE=$(BASELINE) RUNS=$(RUNS) CHECK=$(CHECK) JSON=$(JSON) DOCS=$(DOCS) \
	    $(TARGET)/release/examples/bench

test: packages engines
	@scripts/test

test-engines: ENGINES += mysql-5.6 mariadb-10.5 mariadb-11.8
test-engines: packages engines
	@rm -rf $(TARGET)/tmp/findings
	cargo test --locked --test mysql8
	HOOKBOX_ENGINES_TABLE=$(CURDIR)/docs/engines.md RUST_TEST_THREADS=1 \
	    cargo test --locked --test engines -- --include-ignored

# After changes of what a check calls; the next build takes it.
functions: packages
	HOOKBOX_FUNCTIONS=$(CURDIR)/scripts/functions cargo test --locked --test cost
	@touch hooks/main.rs

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items

fmt:
	cargo fmt

packages:
	@scripts/install-packages

# 75: it cannot be had today, and the tests say again that they were skipped.
engines:
	@for engine in $(ENGINES); do scripts/get-engine $$engine || [ $$? = 75 ] || exit 1; done
