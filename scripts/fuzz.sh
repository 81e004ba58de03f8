#!/bin/sh
# Runs every fuzz target of this repository, one after the other, for the time
# given:
#
#     scripts/fuzz.sh 10s [TARGET...]
#     scripts/fuzz.sh 10000x    (so many inputs to each)
#
# What fails is written to testdata/fuzz of the target's package: repair the
# code and commit the file, which every later test run tries.
set -eu

time=${1:?usage: scripts/fuzz.sh TIME [TARGET...]}
shift
cd "$(dirname "$0")/.."

targets=$(git grep -n '^func Fuzz' -- '*_test.go' | sed -E 's#^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*#./\1 \2#' | sort)
[ -n "$targets" ] || {
    echo "fuzz: found no target" >&2
    exit 1
}
# go test fails at times because the time was over while an input was being
# tried. That is no failure of the input, of which it would write a file.
run() {
    if "${GO:-go}" test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" >"$out" 2>&1 </dev/null; then
        tail -n 1 "$out"
    elif grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out"; then
        echo "the time was over"
    else
        cat "$out"
        return 1
    fi
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
echo "$targets" | while read -r package target; do
    case " $* " in
    "  " | *" $target "*) ;;
    *) continue ;;
    esac
    echo "fuzz: $package $target"
    run "$package" "$target"
done
