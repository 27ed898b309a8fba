#!/bin/sh
# setup.sh - bring in what varve is built from. Safe to run again; quick when nothing is missing.
#
#   tools/setup.sh [store] [engine] [modules] [tests] [spec] [bench] [long] [all]   no word: all but the last three
#   tools/setup.sh where engine|modules|spec                           print the folder; exit 1 if it is not there
#
#   store     compiler, meson, and the libraries of the store and the command (Debian packages)
#   engine    the crate in engine/, compiled once per user: takes minutes, is kept for every clone
#   modules   SQLite, QuickJS and Lua as WebAssembly, fetched by npm, checked against tools/modules.sha256
#   tests     what the tests need beyond that (Debian packages)
#   bench     LMDB and SQLite, which `make bench` compares with (Debian packages)
#   long      what `make test-long` needs beyond that: a kernel that is a process, file systems, spin
#   spec      the WebAssembly specification's test suite, converted to JSON and binaries
#
# Packages are installed with apt-get, as root or by sudo if that asks no password. Otherwise, and always with
# VARVE_SETUP=print, the commands are printed and the exit code is 1. All else goes to the cache:
#
#   ${VARVE_CACHE:-~/.cache/varve}/
#     engine/<key>/libvarve_engine.a     key: the sources and the lock file of engine/, and the machine's kind;
#     engine/<key>/include/wasmtime.h    a newer rustc alone is no reason to compile again
#     modules/sqlite3.wasm quickjs.wasm lua.wasm
#     spec/<key>/<suite>/<name>/<name>.json and the <name>.<n>.wasm that it speaks of. Suites: v1 v2 v3 as
#                                        released, latest, and proposal-<name>. <key>/SKIPPED lists files that
#                                        the converter refused, with the reason. `where spec` prints spec/<key>.
#
# Every folder appears by one rename after it is complete, so an interrupted set-up leaves nothing half made.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${VARVE_CACHE:-${HOME:?HOME is not set and VARVE_CACHE neither}/.cache/varve}
rust_least=95 # the engine needs rustc 1.95

say() {
    printf 'setup: %s\n' "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# ---- packages ----

missing=''

# need PACKAGE TEST...: PACKAGE is missing unless the test holds. What counts is the tool, wherever it came from.
need() {
    package=$1
    shift
    case " $missing " in *" $package "*) return 0 ;; esac
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

file_exists() {
    for file in "$@"; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

library() {
    have pkg-config && pkg-config --exists "$1"
}

install_missing() {
    [ -n "$missing" ] || return 0
    install="apt-get install -y --no-install-recommends$missing"
    if [ "${VARVE_SETUP:-}" = print ]; then
        say "missing:$missing. Run as root:"
        printf 'apt-get update\n%s\n' "$install"
        exit 1
    fi
    have apt-get || fail "missing:$missing (names of Debian 12). Install them and run this again."
    if [ "$(id -u)" = 0 ]; then
        as_root=''
    elif have sudo && sudo -n true 2>/dev/null; then
        as_root=sudo
    else
        say "missing:$missing. Run these and then this again:"
        printf 'sudo apt-get update\nsudo %s\n' "$install"
        exit 1
    fi
    say "installing$missing"
    log=$(mktemp)
    # The lists of packages may be absent or stale, and then fresh ones help. For rustc-web they are fetched at
    # once: it came to Debian 12 as a security update, and a stale list has an older one that would install too.
    case $missing in *rustc-web*) run_apt apt-get update >"$log" 2>&1 || true ;; esac
    if ! run_apt $install >>"$log" 2>&1; then
        if ! { run_apt apt-get update && run_apt $install; } >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            fail "could not install$missing"
        fi
    fi
    rm -f "$log"
    missing=''
}

run_apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive "$@"
}

# ---- helpers for what lands in the cache ----

# One set-up at a time: the lock goes with this process, however it ends.
lock_cache() {
    [ -z "${locked:-}" ] || return 0
    mkdir -p "$cache"
    exec 9>"$cache/setup.lock"
    if ! flock -n 9; then
        say 'another set-up is running; waiting for it'
        flock 9
    fi
    locked=yes
}

# run_watched LOG TOTAL WORD COMMAND...: runs it with its output in LOG and shows how many lines of LOG begin
# with WORD: on a terminal every second in place, else a line every ten seconds.
run_watched() {
    watch_log=$1 watch_total=$2 watch_word=$3
    shift 3
    "$@" >"$watch_log" 2>&1 9>&- &
    watch_pid=$!
    trap 'kill "$watch_pid" 2>/dev/null; exit 130' INT TERM
    seconds=0
    while kill -0 "$watch_pid" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        done_lines=$(grep -c "^ *$watch_word " "$watch_log" || true)
        if [ -t 2 ]; then
            printf '\rsetup: %s of %s, %s s ' "$done_lines" "$watch_total" "$seconds" >&2
        elif [ $((seconds % 10)) = 0 ]; then
            say "$done_lines of $watch_total, $seconds s"
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    trap - INT TERM
    wait "$watch_pid"
}

# Sets `rustc` and `cargo` to a pair that is new enough: the user's own, or Debian's, which a toolchain manager
# earlier in PATH may hide.
find_rust() {
    for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do
        have "$rustc" || continue
        minor=$("$rustc" --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
        [ "${minor:-0}" -ge "$rust_least" ] || continue
        cargo=cargo
        [ "$rustc" != /usr/bin/rustc ] || cargo=/usr/bin/cargo
        have "$cargo" || continue
        return 0
    done
    return 1
}

# After the packages are in: sets the pair, or ends with what to do.
use_rust() {
    find_rust || fail "rustc 1.$rust_least or newer is needed: see https://rustup.rs"
}

# The name of what the given files of the tree would build.
key_of() {
    { cd "$root" && cat "$@" && uname -m; } | sha256sum | cut -c 1-16
}

crates_in() {
    "$cargo" tree --locked -e normal,build --prefix none --manifest-path "$1" 2>/dev/null |
        sed 's/ (.*//' | sort -u | wc -l
}

# ---- the steps ----

where() {
    case $1 in
    engine) place=$cache/engine/$(key_of engine/Cargo.toml engine/Cargo.lock engine/build.rs engine/src/lib.rs) ;;
    modules) place=$cache/modules ;;
    spec) place=$cache/spec/$(key_of tools/spec/Cargo.toml tools/spec/Cargo.lock tools/spec/src/main.rs) ;;
    *) fail "no such place: $1" ;;
    esac
    printf '%s\n' "$place"
    [ -d "$place" ]
}

# Each step has two parts: needs_NAME adds to the list of packages, make_NAME fills the cache.

needs_store() {
    need build-essential have cc
    need build-essential have make
    need pkg-config have pkg-config
    need meson have meson
    need ninja-build have ninja
    need python3 have python3
    need libzstd-dev library libzstd
    need libjansson-dev library jansson
    need librust-blake3-dev file_exists /usr/share/cargo/registry/blake3-*/c/blake3.c
}

make_store() {
    :
}

needs_tests() {
    need libcmocka-dev library cmocka
    need jq have jq
    need wabt have wat2wasm
}

make_tests() {
    :
}

# Programs of the administrator's, which are not in everybody's PATH.
have_admin() {
    have "$1" || file_exists "/usr/sbin/$1" "/sbin/$1"
}

needs_long() {
    need user-mode-linux have linux.uml
    need dmsetup have_admin dmsetup
    need kmod have_admin insmod
    need e2fsprogs have_admin mkfs.ext4
    need xfsprogs have_admin mkfs.xfs
    need btrfs-progs have_admin mkfs.btrfs
    need spin have spin
}

make_long() {
    :
}

# What the bench compares with. Without them it leaves those rows out and says so.
needs_bench() {
    need liblmdb-dev library lmdb
    need libsqlite3-dev library sqlite3
}

make_bench() {
    :
}

needs_engine() {
    ! where engine >/dev/null || return 0
    need build-essential have cc
    need cmake have cmake
    need rustc-web find_rust
    need cargo-web find_rust
}

make_engine() {
    ! place=$(where engine) || return 0
    lock_cache
    [ ! -d "$place" ] || return 0
    use_rust

    work=$place.tmp # kept when interrupted: cargo goes on where it was
    rm -rf "$work/done"
    mkdir -p "$work/done"
    total=$(crates_in "$root/engine/Cargo.toml")
    say "compiling the engine, once: $total crates, about 2 to 15 minutes"
    if ! RUSTC=$rustc CARGO_TARGET_DIR=$work/target VARVE_ENGINE_INCLUDE=$work/include \
        run_watched "$work/log" "$total crates" Compiling \
        "$cargo" build --release --locked --manifest-path "$root/engine/Cargo.toml"; then
        tail -n 30 "$work/log" >&2
        fail "the engine did not compile; all it said is in $work/log"
    fi
    mv "$work/target/release/libvarve_engine.a" "$work/include" "$work/done/"
    "$rustc" --version >"$work/done/built-by"
    mv "$work/done" "$place"
    rm -rf "$work"
    say "the engine is in $place"
}

needs_spec() {
    ! where spec >/dev/null || return 0
    need build-essential have cc
    need rustc-web find_rust
    need cargo-web find_rust
}

make_spec() {
    ! place=$(where spec) || return 0
    lock_cache
    [ ! -d "$place" ] || return 0
    use_rust

    work=$place.tmp
    rm -rf "$work/done"
    mkdir -p "$work/done"
    total=$(crates_in "$root/tools/spec/Cargo.toml")
    say "converting the specification's test suite, once"
    if ! RUSTC=$rustc CARGO_TARGET_DIR=$work/target \
        run_watched "$work/log" "$total crates" Compiling \
        "$cargo" run --release --locked --manifest-path "$root/tools/spec/Cargo.toml" -- "$work/done"; then
        tail -n 30 "$work/log" >&2
        fail "it did not convert; all it said is in $work/log"
    fi
    mv "$work/done" "$place"
    rm -rf "$work"
    say "the test suite is in $place"
}

# The modules: name in the cache, npm package, path inside it.
modules='sqlite3.wasm @sqlite.org/sqlite-wasm@3.54.1-build1 dist/sqlite3.wasm
quickjs.wasm quickjs-wasi@3.6.2 quickjs.wasm
lua.wasm wasmoon@1.16.0 dist/glue.wasm'

needs_modules() {
    while read -r name package path; do
        [ -f "$cache/modules/$name" ] || need npm have npm
    done <<END
$modules
END
}

make_modules() {
    while read -r name package path; do
        [ -f "$cache/modules/$name" ] || fetch_module "$name" "$package" "$path" </dev/null
    done <<END
$modules
END
}

fetch_module() {
    lock_cache
    [ ! -f "$cache/modules/$1" ] || return 0
    work=$cache/modules.tmp
    rm -rf "$work"
    mkdir -p "$work" "$cache/modules"
    say "fetching $2"
    if ! (cd "$work" && npm pack --silent "$2") >"$work/log" 2>&1; then
        cat "$work/log" >&2
        fail "npm could not fetch $2"
    fi
    tar -xzf "$work"/*.tgz -C "$work" "package/$3"
    pin=$(sed -n "s/^\([0-9a-f]*\)  $1\$/\1/p" "$root/tools/modules.sha256")
    if [ "$(sha256sum <"$work/package/$3")" != "$pin  -" ]; then
        fail "$2 holds another $3 than tools/modules.sha256 pins: not used"
    fi
    mv "$work/package/$3" "$cache/modules/$1"
    rm -rf "$work"
}

if [ "${1:-}" = where ]; then
    where "${2:-}"
    exit
fi
case " $* " in
'  ' | *' all '*) set -- store engine modules tests ;;
esac
for step in "$@"; do
    case $step in
    store | engine | modules | tests | spec | bench | long) "needs_$step" ;;
    *) fail "no such step: $step (store engine modules tests spec bench long all)" ;;
    esac
done
install_missing
for step in "$@"; do
    "make_$step"
done
