package shells

import (
	"errors"
	"strings"
)

// ownWords is how words are found, and files, in a bash that has not loaded the
// package bash-completion, which cobra's script takes for granted: without it a key
// would print errors on the line that is typed.
const ownWords = `    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    cur=${words[cword]} prev=${words[cword-1]}
}

__pgbridge_filedir()
{
    if declare -F _filedir >/dev/null; then
        _filedir "$@"
        return
    fi
    compopt -o filenames 2>/dev/null
    IFS=$'\n' read -ra COMPREPLY -d '' < <(compgen ${1:--f} -- "$cur")
`

const cobrasWords = `    _get_comp_words_by_ref "$@" cur prev words cword
`

var errBash = errors.New("cobra's script for bash is not as it was")

// freestanding makes cobra's script work without the package bash-completion.
func freestanding(script string) (string, error) {
	if strings.Count(script, cobrasWords) != 1 || !strings.Contains(script, " _filedir") {
		return "", errBash
	}
	script = strings.ReplaceAll(script, " _filedir", " __pgbridge_filedir")
	return strings.Replace(script, cobrasWords, ownWords, 1), nil
}
