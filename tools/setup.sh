#!/bin/sh
# setup.sh - bring in what varve is built from. Safe to run again; quick when nothing is missing.
#
#   tools/setup.sh [store] [engine] [modules] [tests] [spec] [all]     no word: all but spec
#   tools/setup.sh where engine|modules|spec                           print the folder; exit 1 if it is not there
#
#   store     compiler, meson, and the libraries of the store and the command (Debian packages)
#   engine    the crate in engine/, compiled once per user: takes minutes, is kept for every clone
#   modules   SQLite, QuickJS and Lua as WebAssembly, fetched by npm, checked against tools/modules.sha256
#   tests     what the tests need beyond that (Debian packages)
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
    # The lists of packages may be absent or stale: a second try with fresh ones, before it counts as failed.
    if ! run_apt $install >"$log" 2>&1; then
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

need_rust() {
    find_rust && return 0
    missing="$missing rustc-web cargo-web"
    install_missing
    find_rust && return 0
    # Installed from stale lists, it can be too old: once more with fresh ones.
    { run_apt apt-get update && run_apt apt-get install -y --no-install-recommends rustc-web cargo-web; } >&2
    find_rust || fail "rustc 1.$rust_least or newer is needed, and Debian's rustc-web is older: see https://rustup.rs"
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

step_store() {
    need build-essential have cc
    need build-essential have make
    need pkg-config have pkg-config
    need meson have meson
    need ninja-build have ninja
    need python3 have python3
    need libzstd-dev library libzstd
    need libjansson-dev library jansson
    need librust-blake3-dev file_exists /usr/share/cargo/registry/blake3-*/c/blake3.c
    install_missing
}

step_tests() {
    need libcmocka-dev library cmocka
    need jq have jq
    need wabt have wat2wasm
    install_missing
}

step_engine() {
    place=$(where engine) && return 0
    lock_cache
    [ ! -d "$place" ] || return 0
    need build-essential have cc
    need cmake have cmake
    install_missing
    need_rust

    work=$place.tmp
    rm -rf "$work"
    mkdir -p "$work/done"
    total=$(crates_in "$root/engine/Cargo.toml")
    say "compiling the engine, once: $total crates, about 2 to 15 minutes"
    if ! RUSTC=$rustc CARGO_TARGET_DIR=$work/target VARVE_ENGINE_INCLUDE=$work/done/include \
        run_watched "$work/log" "$total crates" Compiling \
        "$cargo" build --release --locked --manifest-path "$root/engine/Cargo.toml"; then
        tail -n 30 "$work/log" >&2
        fail "the engine did not compile; all it said is in $work/log"
    fi
    mv "$work/target/release/libvarve_engine.a" "$work/done/"
    "$rustc" --version >"$work/done/built-by"
    mv "$work/done" "$place"
    rm -rf "$work"
    say "the engine is in $place"
}

module_pinned() {
    (cd "$1" && grep " $2\$" "$root/tools/modules.sha256" | sha256sum -c --status 2>/dev/null)
}

# fetch_module NAME PACKAGE PATH: PATH inside the npm package becomes modules/NAME.
fetch_module() {
    [ ! -f "$cache/modules/$1" ] || return 0
    lock_cache
    if ! have npm; then
        missing="$missing npm"
        install_missing
    fi
    work=$cache/modules.tmp
    rm -rf "$work"
    mkdir -p "$work" "$cache/modules"
    say "fetching $2"
    (cd "$work" && npm pack --silent "$2" >pack.log 2>&1) || {
        cat "$work/pack.log" >&2
        fail "npm could not fetch $2"
    }
    tar -xzf "$work"/*.tgz -C "$work" "package/$3"
    mv "$work/package/$3" "$work/$1"
    module_pinned "$work" "$1" || fail "$2 holds another $3 than tools/modules.sha256 pins: not used"
    mv "$work/$1" "$cache/modules/$1"
    rm -rf "$work"
}

step_modules() {
    fetch_module sqlite3.wasm @sqlite.org/sqlite-wasm@3.54.1-build1 dist/sqlite3.wasm
    fetch_module quickjs.wasm quickjs-wasi@3.6.2 quickjs.wasm
    fetch_module lua.wasm wasmoon@1.16.0 dist/glue.wasm
}

step_spec() {
    place=$(where spec) && return 0
    lock_cache
    [ ! -d "$place" ] || return 0
    need build-essential have cc
    install_missing
    need_rust

    work=$place.tmp
    rm -rf "$work"
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

if [ "${1:-}" = where ]; then
    where "${2:-}"
    exit
fi
[ $# -gt 0 ] || set -- store engine modules tests
for step in "$@"; do
    case $step in
    store | engine | modules | tests | spec) "step_$step" ;;
    all)
        step_store
        step_engine
        step_modules
        step_tests
        ;;
    *) fail "no such step: $step (store engine modules tests spec all)" ;;
    esac
done
