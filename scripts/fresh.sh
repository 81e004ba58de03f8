#!/bin/sh
# Runs what the README promises on a machine that has nothing yet: an empty
# Debian in a folder, a clean clone of this repository, and in it only Go, git
# and make. For root only; it needs debootstrap.
#
#     scripts/fresh.sh                  make demo, then make test
#     scripts/fresh.sh 'make test PACKAGES=./client'      these commands instead
#
# The folder is FRESH (default /var/tmp/pgbridge-fresh); its base system stays for
# the next time. Packages and modules come from where this machine gets them.
set -eu

root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
folder=${FRESH:-${TMPDIR:-/var/tmp}/pgbridge-fresh}
suite=${FRESH_SUITE:-bookworm}
base=$folder/$suite     # Debian, and nothing else
machine=$folder/machine # a copy of it, made anew each time

say() { printf 'fresh: %s\n' "$*" >&2; }

[ "$(id -u)" -eq 0 ] || {
    say "this needs root, for chroot"
    exit 1
}
for tool in debootstrap unshare git go; do
    command -v "$tool" >/dev/null 2>&1 || {
        say "$tool is not installed"
        exit 1
    }
done

# Prints where this machine's apt gets the suite from.
mirror() {
    apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | awk -v suite="$suite" '$2 == suite { print $1; exit }'
}

make_base() {
    [ -e "$base/etc/debian_version" ] && return
    site=$(mirror)
    say "making $suite in $base"
    rm -rf "$base.part"
    mkdir -p "$base.part"
    debootstrap --variant=minbase --include=ca-certificates,git,make "$suite" "$base.part" ${site:+"$site"} >"$folder/debootstrap.log" 2>&1 || {
        tail -n 20 "$folder/debootstrap.log" >&2
        exit 1
    }
    mv "$base.part" "$base"
}

# What the machine takes over: apt's sources and trust, Go itself, its settings.
furnish() {
    rm -rf "$machine/etc/apt/sources.list" "$machine/etc/apt/sources.list.d"
    for from in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/auth.conf.d /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d \
        /etc/apt/keyrings /usr/share/keyrings /etc/ssl/certs /usr/local/share/ca-certificates /etc/resolv.conf /etc/hosts; do
        [ -e "$from" ] || continue
        mkdir -p "$machine$(dirname "$from")"
        cp -aLT "$from" "$machine$from" 2>/dev/null || cp -aT "$from" "$machine$from"
    done
    mkdir -p "$machine/usr/local/go"
    cp -aT "$(go env GOROOT)" "$machine/usr/local/go"
    mkdir -p "$machine/root/.config/go"
    for name in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOFLAGS GOAUTH; do
        printf '%s=%s\n' "$name" "$(go env "$name")"
    done | grep -v '=$' >"$machine/root/.config/go/env"
    git clone -q --no-hardlinks "$root" "$machine/root/pgbridge"
}

# Becomes a command in the machine. What that leaves behind, processes and
# mounts, ends with it.
inside() {
    MACHINE=$machine COMMAND="cd /root/pgbridge && $1" exec unshare --mount --pid --fork --kill-child sh -c '
        mount -t proc proc "$MACHINE/proc"
        mount --rbind /dev "$MACHINE/dev"
        exec chroot "$MACHINE" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
            PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
            sh -c "$COMMAND"' </dev/null
}

# The demo goes on until it is stopped. It has done its main job when an event
# that was inserted in PostgreSQL has come back from NATS.
demo() {
    : >"$machine/tmp/demo.log"
    (inside 'make demo') >"$machine/tmp/demo.log" 2>&1 &
    pid=$!
    until grep -q '^pgbridge\.event\.' "$machine/tmp/demo.log"; do
        kill -0 "$pid" 2>/dev/null || {
            cat "$machine/tmp/demo.log" >&2
            say "make demo ended, and no event had come"
            exit 1
        }
        sleep 1
    done
    kill -KILL "$pid" # unshare ignores gentler words, and takes its child along
    wait "$pid" 2>/dev/null || true
    grep '^pgbridge\.' "$machine/tmp/demo.log"
}

mkdir -p "$folder"
make_base
say "copying the empty machine"
rm -rf "$machine"
trap 'rm -rf "$machine"' EXIT
trap 'exit 1' INT TERM
cp -a "$base" "$machine"
furnish
[ $# -gt 0 ] || set -- 'make demo' 'make test'
for command in "$@"; do
    say "$command"
    case $command in
    'make demo') demo ;;
    *) (inside "$command") ;;
    esac
done
say "all of it works"
