#!/bin/sh
# Runs every fuzz target of this repository, one after the other, for the time
# given:
#
#     scripts/fuzz.sh 10s [TARGET...]
#     scripts/fuzz.sh 10000x    (so many inputs to each)
#
# For a number of inputs the programs are those of the tests, which know nothing of what
# an input has reached: all that they import would be compiled once more for that.
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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $time in
*x) guided= ;;
*) guided='-fuzz .' ;;
esac
inputs=$("${GO:-go}" env GOCACHE)/fuzz/$("${GO:-go}" list -m) # where go test keeps those that were interesting

# A package's program is linked once for all of its targets.
#
# It fails at times because the time was over while an input was being
# tried. That is no failure of the input, of which it would write a file.
run() {
    program=$work/$(echo "$1" | tr / _).test
    [ -e "$program" ] || "${GO:-go}" test -c $guided -o "$program" "$1"
    if (cd "$1" && "$program" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$time" -test.fuzzcachedir "$inputs/${1#./}" >"$work/out" 2>&1 </dev/null); then
        tail -n 2 "$work/out" | head -n 1
    elif grep -q 'context deadline exceeded' "$work/out" && ! grep -q 'Failing input' "$work/out"; then
        echo "the time was over"
    else
        cat "$work/out"
        return 1
    fi
}

echo "$targets" | while read -r package target; do
    case " $* " in
    "  " | *" $target "*) ;;
    *) continue ;;
    esac
    echo "fuzz: $package $target"
    run "$package" "$target"
done
