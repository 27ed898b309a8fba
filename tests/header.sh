#!/bin/sh
# header.sh HEADER... - each public header stands alone, in C and in C++, without a warning.
set -eu
for header in "$@"; do
    cc -x c -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "$header"
    echo "$(basename "$header"): C"
    if command -v c++ >/dev/null; then
        c++ -x c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "$header"
        echo "$(basename "$header"): C++"
    fi
done
