// Command render prints what the chart renders with the values that it reads, for a
// release named pgbridge. It is for tests of other modules, which do without Helm.
package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/deploy/helm/rendering"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer) error {
	values, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	files, err := rendering.Files("pgbridge", "pgbridge", string(values))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			if _, err := fmt.Fprintf(output, "\n---\n%s", files[name]); err != nil {
				return err
			}
		}
	}
	return nil
}
