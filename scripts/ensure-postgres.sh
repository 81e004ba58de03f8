#!/bin/sh
# Makes sure that PostgreSQL's server programs (postgres, initdb) are on this
# machine: finds them where pgbridge looks, else installs them with apt-get or
# Homebrew. It starts no server, and pgbridge uses none that the package starts.
set -eu

say() { printf 'ensure-postgres: %s\n' "$*" >&2; }

# Prints the folder that holds both programs, or fails.
find_bin() {
    for dir in \
        "${PGBRIDGE_POSTGRES_BIN:-}" \
        "$(dirname "$(command -v postgres 2>/dev/null || echo /nowhere/postgres)")" \
        /usr/lib/postgresql/*/bin \
        /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql@*/bin \
        /usr/local/opt/postgresql@*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
            printf '%s\n' "$dir"
            return 0
        fi
    done
    return 1
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

install_postgres() {
    if command -v apt-get >/dev/null 2>&1; then
        say "installing Debian's package postgresql"
        # A package list that is too old or absent shows as a failed install.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql </dev/null >&2 ||
            { as_root apt-get update </dev/null >&2 &&
                as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql </dev/null >&2; }
    elif command -v brew >/dev/null 2>&1; then
        say "installing Homebrew's postgresql@15"
        brew install postgresql@15 </dev/null >&2
    else
        say "PostgreSQL's server is not installed, and there is neither apt-get nor Homebrew here."
        say "Install it (macOS: https://brew.sh, then brew install postgresql@15, or https://postgresapp.com;"
        say "Fedora: dnf install postgresql-server), or set PGBRIDGE_POSTGRES_BIN to the folder that holds postgres and initdb."
        return 1
    fi
}

if [ -n "${PGBRIDGE_POSTGRES_BIN:-}" ] && ! [ -x "$PGBRIDGE_POSTGRES_BIN/postgres" ]; then
    say "PGBRIDGE_POSTGRES_BIN is $PGBRIDGE_POSTGRES_BIN, which holds no postgres"
    exit 1
fi
if ! find_bin >/dev/null; then
    install_postgres
fi
if dir=$(find_bin); then
    say "using PostgreSQL's programs in $dir"
else
    say "PostgreSQL was installed, but its programs are in none of the known folders; set PGBRIDGE_POSTGRES_BIN"
    exit 1
fi
