#!/bin/sh
# Fetches what examples/javascript needs from npm into .cache/node of this
# repository, in the versions that its lock file names.
set -eu

say() { printf 'ensure-node: %s\n' "$*" >&2; }

root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/node
example=$root/examples/javascript

for tool in node npm; do
    command -v "$tool" >/dev/null 2>&1 || {
        say "$tool is needed: install Node.js 20 or newer"
        exit 1
    }
done
if ! cmp -s "$example/package-lock.json" "$cache/node_modules/fetched"; then
    say "fetching packages into $cache"
    rm -rf "$cache"
    mkdir -p "$cache"
    cp "$example/package.json" "$example/package-lock.json" "$cache/"
    npm ci --prefix "$cache" --no-audit --no-fund --ignore-scripts --loglevel=error </dev/null >&2
    cp "$example/package-lock.json" "$cache/node_modules/fetched"
fi
