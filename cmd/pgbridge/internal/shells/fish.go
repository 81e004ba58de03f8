package shells

import (
	"errors"
	"strings"
)

const cobrasArgs = ` __complete $args[2..-1] $lastArg"
`

// quotedArgs puts words that are complete into quotes again, which fish has taken off:
// cobra's script has them run as code, and whoever leaves a job chooses its id. A home
// folder stays one.
const quotedArgs = `    set -l words
    if set -q args[2]
        set words (string escape -- $args[2..-1] | string replace -r "^'~/" "~/'")
    end
`

var errFish = errors.New("cobra's script for fish is not as it was")

// harmless makes cobra's script for fish run nothing that is typed.
func harmless(script string) (string, error) {
	at := strings.Index(script, cobrasArgs)
	if at < 0 || strings.Count(script, "$args[2..-1]") != 1 {
		return "", errFish
	}
	line := strings.LastIndexByte(script[:at], '\n') + 1
	return script[:line] + quotedArgs + strings.Replace(script[line:], "$args[2..-1]", "$words", 1), nil
}
