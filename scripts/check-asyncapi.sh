#!/bin/sh
# Fetches what checks the documents from npm into .cache/docs of this
# repository, and validates docs/asyncapi.yaml with it.
set -eu

say() { printf 'check-asyncapi: %s\n' "$*" >&2; }

root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/docs
packages='@asyncapi/parser@3.6.0'

for tool in node npm; do
    command -v "$tool" >/dev/null 2>&1 || {
        say "$tool is needed: install Node.js 20 or newer"
        exit 1
    }
done
if [ "$(cat "$cache/packages" 2>/dev/null)" != "$packages" ]; then
    say "fetching $packages into $cache"
    rm -rf "$cache"
    mkdir -p "$cache"
    # shellcheck disable=SC2086 # one word for each package
    npm install --prefix "$cache" --no-save --no-audit --no-fund --loglevel=error $packages </dev/null >&2
    printf '%s\n' "$packages" >"$cache/packages"
fi
cd "$cache"
exec node "$root/scripts/check-asyncapi.mjs" "$root/docs/asyncapi.yaml"
