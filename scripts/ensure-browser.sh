#!/bin/sh
# Makes sure that the console can be looked at: Node.js, Debian's Chromium without a
# screen, and from npm what drives it and what checks accessibility, in .cache/browser.
set -eu

# shellcheck source=scripts/install.sh
. "$(dirname "$0")/install.sh"

root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/browser
packages='playwright-core@1.65.1 axe-core@4.14.1'

for tool in node npm; do
    command -v "$tool" >/dev/null 2>&1 || {
        say "$tool is needed: install Node.js 20 or newer"
        exit 1
    }
done

find_browser() {
    for program in "${PGBRIDGE_TEST_BROWSER:-}" chromium-headless-shell chromium google-chrome \
        "/Applications/Chromium.app/Contents/MacOS/Chromium" "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        [ -n "$program" ] && command -v "$program" 2>/dev/null && return 0
    done
    return 1
}

find_browser >/dev/null || install_package chromium-headless-shell chromium
find_browser >/dev/null || {
    say "no Chromium was found; set PGBRIDGE_TEST_BROWSER to the program"
    exit 1
}
if [ "$(cat "$cache/packages" 2>/dev/null)" != "$packages" ]; then
    say "fetching $packages into $cache"
    rm -rf "$cache"
    mkdir -p "$cache"
    # shellcheck disable=SC2086 # one word for each package
    npm install --prefix "$cache" --no-save --no-audit --no-fund --loglevel=error $packages </dev/null >&2
    printf '%s\n' "$packages" >"$cache/packages"
fi
find_browser
