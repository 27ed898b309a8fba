#!/bin/sh
# configure.sh BUILD FOR auto|enabled|disabled [MESON OPTION]... - make the build folder, or bring it up to date.
#
# The third word says whether the engine is wanted; auto takes it if it is there. What was asked last under the
# name FOR, and which files the builds find by looking, is remembered in the folder: so a second `make` touches
# nothing, and `make` after `make test` keeps what the tests set instead of compiling all again.
set -eu
build=$1 reason=$2 vm=$3
shift 3
cd "$(dirname "$0")/.."

if [ "$vm" = auto ]; then
    if tools/setup.sh where engine >/dev/null; then
        vm=enabled
    else
        vm=disabled
        echo 'no engine yet: building the store alone (tools/setup.sh engine compiles it, once)' >&2
    fi
fi
engine_dir=''
[ "$vm" = disabled ] || engine_dir=$(tools/setup.sh where engine)
set -- "-Dvm=$vm" "-Dengine_dir=$engine_dir" "$@"

memory=$build/.asked-$reason
asked="$* $(ls fuzz tests/cli)"
[ "$(cat "$memory" 2>/dev/null)" != "$asked" ] || exit 0
fresh=''
[ ! -f "$build/build.ninja" ] || fresh=--reconfigure
mkdir -p "$build"
if ! meson setup $fresh "$build" "$@" >"$build/.configured"; then
    cat "$build/.configured" >&2
    exit 1
fi
printf '%s\n' "$asked" >"$memory"
