#!/bin/sh
# Makes sure that what the tests need is on this machine: PostgreSQL's server
# programs and pgbouncer. The tests start their own; a service that a package
# starts on installation is neither used nor touched.
set -eu

say() { printf 'ensure-test-tools: %s\n' "$*" >&2; }

has_pgbouncer() {
    PATH="$PATH:/usr/sbin:/opt/homebrew/bin:/usr/local/bin" command -v pgbouncer >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        say "running with sudo: $*"
        sudo "$@"
    else
        say "this needs root, and there is no sudo. Run as root: $*"
        return 1
    fi
}

install_pgbouncer() {
    if command -v apt-get >/dev/null 2>&1; then
        say "installing Debian's package pgbouncer"
        # A package list that is too old or absent shows as a failed install.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer </dev/null >&2 ||
            { as_root apt-get update </dev/null >&2 &&
                as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer </dev/null >&2; }
    elif command -v brew >/dev/null 2>&1; then
        say "installing Homebrew's pgbouncer"
        brew install pgbouncer </dev/null >&2
    else
        say "pgbouncer is not installed, and there is neither apt-get nor Homebrew here: install it and have it on PATH"
        return 1
    fi
}

sh "$(dirname "$0")/ensure-postgres.sh"
has_pgbouncer || install_pgbouncer
has_pgbouncer || {
    say "pgbouncer was installed, but is neither on PATH nor in /usr/sbin"
    exit 1
}
