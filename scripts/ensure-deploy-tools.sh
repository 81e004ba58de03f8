#!/bin/sh
# Makes sure that podman can build and run an image on this machine, and that
# systemd-analyze is there. Neither needs a service or a registry: the tests' images
# are made of nothing but files.
set -eu

# shellcheck source=scripts/install.sh
. "$(dirname "$0")/install.sh"

has() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }

has podman || install_package podman podman
# crun, which Debian's podman prefers, refuses machines with both versions of cgroups.
has runc || install_package runc runc
has systemd-analyze || install_package systemd systemd
for tool in podman systemd-analyze; do
    has "$tool" || {
        say "$tool was installed, but is neither on PATH nor in /usr/sbin"
        exit 1
    }
done
