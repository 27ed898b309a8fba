#!/bin/sh
# floors.sh FLOORS.py ROOT - each fault that floors.py looks for is found when it is planted in a copy of src/.
set -eu
floors=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0
failed=0

# plant WHAT FILE TEXT EXPECTED: with TEXT added to FILE, floors.py must complain in the EXPECTED words.
plant() {
    rm -rf "$folder/src"
    cp -r "$2/src" "$folder/src"
    mkdir -p "$(dirname "$folder/src/$3")"
    printf '%s\n' "$4" >>"$folder/src/$3"
    if python3 "$floors" "$folder" >"$folder/said"; then
        echo "not found: $1"
        failed=$((failed + 1))
    elif ! grep -q "$5" "$folder/said"; then
        echo "found otherwise: $1"
        cat "$folder/said"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

plant 'a floor above' "$2" base/bytes.c '#include "page/image.h"' 'bytes.c:.*is a floor above'
plant 'listed below' "$2" base/error.c '#include "base/vfs.h"' 'error.c:.*is listed below'
plant 'a program that looks inside' "$2" cli/new.c '#include "base/alloc.h"' 'new.c:.*varve.h and their own'
plant 'the engine elsewhere' "$2" store/revision.c '#include <wasmtime.h>' 'only vm/engine.c'
plant 'a file opened' "$2" store/revision.c 'int f(void) { return open("x", 0); }' 'open(): files are touched'
plant 'naked malloc' "$2" store/revision.c 'void *f(void) { return malloc(1); }' 'malloc(): memory comes from'
plant 'a call for nobody' "$2" base/error.c 'void f(char *a) { strcpy(a, a); }' 'strcpy(): never'
plant 'a file in no list' "$2" base/strange.c '' 'no meson.build lists it'

rm -rf "$folder/src"
cp -r "$2/src" "$folder/src"
printf '#include "base/ring_b.h"\n' >"$folder/src/base/ring_a.h"
printf '#include "base/ring_a.h"\n' >"$folder/src/base/ring_b.h"
printf '/* open("x") */ static const char *words = "malloc(1)";\n' >>"$folder/src/base/error.c"
printf '#include "base/ring_a.h"\n' >>"$folder/src/base/bytes.c"
python3 "$floors" "$folder" >"$folder/said" || true
if grep -q 'include each other' "$folder/said" && ! grep -q 'error.c' "$folder/said"; then
    passed=$((passed + 1))
else
    echo 'a ring of headers; words in comments and strings'
    cat "$folder/said"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
