#!/bin/sh
# install.sh BUILD static|shared... - what is installed can be found by pkg-config, linked and run from elsewhere.
set -eu
build=$1
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

meson install -C "$build" --no-rebuild --destdir "$folder/root" >"$folder/log" || {
    cat "$folder/log"
    exit 1
}
cat >"$folder/user.c" <<'END'
#include <stdio.h>
#include <varve.h>
int main(void)
{
    uint32_t features = 0;
    return printf("%s\n", varve_version(&features)) > 1 ? 0 : 1;
}
END
PKG_CONFIG_PATH=$(dirname "$(find "$folder/root" -name varve.pc)")
PKG_CONFIG_SYSROOT_DIR=$folder/root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
libdir=$(dirname "$(find "$folder/root" -name libvarve.so)")

for kind in "$@"; do
    case $kind in
    shared)
        cc -o "$folder/shared" "$folder/user.c" $(pkg-config --cflags --libs varve)
        LD_LIBRARY_PATH=$libdir "$folder/shared"
        ;;
    static)
        rm "$libdir"/libvarve.so*
        cc -o "$folder/static" "$folder/user.c" $(pkg-config --static --cflags --libs varve)
        "$folder/static"
        ;;
    esac
done
echo "$# passed, 0 failed"
