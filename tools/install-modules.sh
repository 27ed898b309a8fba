#!/bin/sh
# install-modules.sh LIBEXEC - put the guest modules that the cache holds beside the programs that run them.
set -eu
modules=$("$MESON_SOURCE_ROOT/tools/setup.sh" where modules) || exit 0
install -d "$MESON_INSTALL_DESTDIR_PREFIX/$1"
for name in sqlite3.wasm quickjs.wasm; do
    [ ! -f "$modules/$name" ] || install -m 644 "$modules/$name" "$MESON_INSTALL_DESTDIR_PREFIX/$1/"
done
