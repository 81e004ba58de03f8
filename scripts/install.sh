#!/bin/sh
# For the ensure-*.sh scripts to source.

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }

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

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" </dev/null >&2
}

# Installs Debian's package $1 or Homebrew's $2; fails where there is neither.
install_package() {
    if command -v apt-get >/dev/null 2>&1; then
        say "installing Debian's package $1"
        # A package list that is too old or absent shows as a failed install.
        apt_install "$1" || { as_root apt-get update </dev/null >&2 && apt_install "$1"; }
    elif command -v brew >/dev/null 2>&1; then
        say "installing Homebrew's $2"
        brew install "$2" </dev/null >&2
    else
        say "$1 is not installed, and there is neither apt-get nor Homebrew here"
        return 1
    fi
}
