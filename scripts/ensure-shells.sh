#!/bin/sh
# Makes sure that completion can be tried: zsh, fish and bash, with the package
# bash-completion.
set -eu

# shellcheck source=scripts/install.sh
. "$(dirname "$0")/install.sh"

has_bash_completion() {
    for file in /usr/share/bash-completion/bash_completion /opt/homebrew/share/bash-completion/bash_completion /usr/local/share/bash-completion/bash_completion; do
        [ -e "$file" ] && return 0
    done
    return 1
}

for shell in bash zsh fish; do
    command -v "$shell" >/dev/null 2>&1 || install_package "$shell" "$shell"
    command -v "$shell" >/dev/null 2>&1 || {
        say "$shell was installed, but is not on PATH"
        exit 1
    }
done
has_bash_completion || install_package bash-completion bash-completion@2
