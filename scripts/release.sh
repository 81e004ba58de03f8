#!/bin/sh
# Makes what a release consists of: an archive for each platform with the program in
# it, a list of what that program was made of (CycloneDX), checksums, and notes from
# the changelog.
#
#     scripts/release.sh v0.1.0 dist linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
#
# The same commit and the same Go make the same archives. A version such as v0.1.0
# needs a section in CHANGELOG.md and the chart's appVersion; any other, for trying,
# takes the section Unreleased.
set -eu

# shellcheck source=scripts/install.sh
. "$(dirname "$0")/install.sh"

CYCLONEDX=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

version=$1 dist=$2
shift 2
root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
mkdir -p "$dist"
dist=$(CDPATH='' cd "$dist" && pwd)
cd "$root"
[ -z "$(ls -A "$dist")" ] || {
    say "$dist is not empty"
    exit 1
}

# Prints the lines of a section of the changelog.
section() {
    awk -v heading="## [$1]" 'index($0, "## ") == 1 { on = index($0, heading) == 1; next } on' CHANGELOG.md
}

# The time in archives, of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
tar=$(command -v gtar || command -v tar)
"$tar" --version | grep -q GNU || {
    say "this needs GNU tar, for archives that come out the same each time; macOS: brew install gnu-tar"
    exit 1
}

name=Unreleased
if printf '%s' "$version" | grep -qxE 'v[0-9]+\.[0-9]+\.[0-9]+'; then
    name=${version#v}
    for file in deploy/helm/pgbridge/Chart.yaml deploy/kustomize/base/kustomization.yaml; do
        grep -qE "(appVersion|newTag): $version( |\$)" "$file" || {
            say "$file is of another version than $version"
            exit 1
        }
    done
fi
section "$name" >"$dist/NOTES.md"
[ -n "$(tr -d '[:space:]' <"$dist/NOTES.md")" ] || {
    say "CHANGELOG.md has nothing in a section $name"
    exit 1
}

tools=$root/.cache/tools
GOBIN=$tools go install "$CYCLONEDX"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
for platform; do
    os=${platform%/*} arch=${platform#*/}
    base=pgbridge_${version}_${os}_${arch}
    mkdir "$stage/$base"
    ${MAKE:-make} --no-print-directory build GOOS="$os" GOARCH="$arch" VERSION="$version" BIN="$stage/$base/pgbridge"
    "$tools/cyclonedx-gomod" bin -json -licenses -std -noserial -version "$version" -output "$dist/$base.cdx.json" "$stage/$base/pgbridge" 2>/dev/null
    cp LICENSE README.md CHANGELOG.md "$stage/$base/"
    "$tar" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$stage" -cf - "$base" | gzip -n6 >"$dist/$base.tar.gz"
    rm -r "${stage:?}/$base"
    say "made $base.tar.gz"
done
cd "$dist"
if command -v sha256sum >/dev/null 2>&1; then sha256sum ./*.tar.gz ./*.json; else shasum -a 256 ./*.tar.gz ./*.json; fi | sed 's# \./# #' >SHA256SUMS
