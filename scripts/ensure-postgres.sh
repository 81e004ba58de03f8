#!/bin/sh
# Makes sure that PostgreSQL's server programs (postgres, initdb) are on this
# machine: finds them where pgbridge looks, else installs them with apt-get or
# Homebrew. It starts no server, and pgbridge uses none that the package starts.
set -eu

# shellcheck source=scripts/install.sh
. "$(dirname "$0")/install.sh"

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

if [ -n "${PGBRIDGE_POSTGRES_BIN:-}" ] && ! [ -x "$PGBRIDGE_POSTGRES_BIN/postgres" ]; then
    say "PGBRIDGE_POSTGRES_BIN is $PGBRIDGE_POSTGRES_BIN, which holds no postgres"
    exit 1
fi
if ! find_bin >/dev/null; then
    install_package postgresql postgresql@15 || {
        say "Install it (macOS: https://brew.sh, then brew install postgresql@15, or https://postgresapp.com;"
        say "Fedora: dnf install postgresql-server), or set PGBRIDGE_POSTGRES_BIN to the folder that holds postgres and initdb."
        exit 1
    }
fi
if dir=$(find_bin); then
    say "using PostgreSQL's programs in $dir"
else
    say "PostgreSQL was installed, but its programs are in none of the known folders; set PGBRIDGE_POSTGRES_BIN"
    exit 1
fi
