#!/bin/sh
# configure.sh BUILD FOR auto|enabled|disabled [MESON OPTION]... - make the build folder, or bring it up to date.
#
# The third word says whether the engine is wanted; auto takes it if it is there. What was asked last under the
# name FOR is remembered in the folder, so that a second `make` touches nothing, and that `make` after
# `make test` keeps what the tests set instead of compiling all again.
set -eu
build=$1 reason=$2 vm=$3
shift 3

if [ "$vm" = auto ]; then
    if "$(dirname "$0")/setup.sh" where engine >/dev/null; then
        vm=enabled
    else
        vm=disabled
        echo 'no engine yet: building the store alone (tools/setup.sh engine compiles it, once)' >&2
    fi
fi
engine_dir=''
[ "$vm" = disabled ] || engine_dir=$("$(dirname "$0")/setup.sh" where engine)
set -- "-Dvm=$vm" "-Dengine_dir=$engine_dir" "$@"

memory=$build/.asked-$reason
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$@"
elif [ "$(cat "$memory" 2>/dev/null)" != "$*" ]; then
    meson setup --reconfigure "$build" "$@"
fi
printf '%s\n' "$*" >"$memory"
