#!/bin/sh
# Makes sure that what the tests need is on this machine: PostgreSQL's server
# programs and pgbouncer. The tests start their own; a service that a package
# starts on installation is neither used nor touched.
set -eu

# shellcheck source=scripts/install.sh
. "$(dirname "$0")/install.sh"

has_pgbouncer() {
    PATH="$PATH:/usr/sbin:/opt/homebrew/bin:/usr/local/bin" command -v pgbouncer >/dev/null 2>&1
}

sh "$(dirname "$0")/ensure-postgres.sh"
has_pgbouncer || install_package pgbouncer pgbouncer
has_pgbouncer || {
    say "pgbouncer was installed, but is neither on PATH nor in /usr/sbin"
    exit 1
}
