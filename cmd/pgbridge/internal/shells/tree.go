// Package shells tells shells, and readers of manuals, what the command line
// understands: completion for bash, zsh and fish, and man pages. Both are made from
// the model of the parser, so they know what it knows.
//
// cobra does the work, whose scripts for the shells are used by many programs; it does
// not parse what pgbridge is run with.
package shells

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Values are what may stand at a command's next argument, behind args and with these
// flags, and whether a space is to follow. They begin with anything.
type Values func(command string, args []string, flags map[string]string) (values []string, space bool)

// tree is the command line as cobra sees it.
func tree(app *kong.Application, values Values) *cobra.Command {
	root := command(app.Node, values, "")
	root.Use, root.Short = app.Name, app.Help
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.DisableAutoGenTag = true
	return root
}

func command(node *kong.Node, values Values, path string) *cobra.Command {
	long, examples, _ := strings.Cut(node.Detail, "\n\nExample")
	if before, after, found := strings.Cut(node.Detail, "Example:\n\n"); found && before == "" {
		long, examples = "", "\n\n"+after
	}
	_, examples, _ = strings.Cut(examples, "\n\n")
	c := &cobra.Command{
		Use: usage(node), Short: node.Help, Long: strings.TrimSpace(node.Help + "\n\n" + long), Example: examples,
		DisableFlagsInUseLine: true, DisableAutoGenTag: true,
	}
	for _, flag := range node.Flags {
		if !flag.Hidden {
			addFlag(c, flag)
		}
	}
	for _, child := range node.Children {
		if !child.Hidden {
			c.AddCommand(command(child, values, strings.TrimSpace(path+" "+child.Name)))
		}
	}
	if len(node.Children) > 0 {
		return c
	}
	c.Run = func(*cobra.Command, []string) {} // else cobra takes it for a topic of help
	c.ValidArgsFunction = func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		flags := map[string]string{}
		for _, flag := range node.Flags {
			for _, name := range append([]string{flag.Name}, flag.Aliases...) {
				if f := c.Flags().Lookup(name); f != nil && f.Changed {
					flags[flag.Name] = f.Value.String()
				}
			}
		}
		all, space := values(path, args, flags)
		var found []string
		for _, v := range all {
			if strings.HasPrefix(v, word) && canBeTyped(v) {
				found = append(found, v)
			}
		}
		found = withoutTraps(found)
		directive := cobra.ShellCompDirectiveNoFileComp
		switch {
		case takesFile(path, len(args)):
			directive = cobra.ShellCompDirectiveDefault
		case len(args) < len(node.Positional) && node.Positional[len(args)].Tag.PlaceHolder == "DIR":
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		if !space {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return found, directive
	}
	return c
}

// canBeTyped reports whether a value is offered: clients choose the ids of jobs, and one
// that is taken for a flag, or holds what a terminal obeys, is for nobody to fall into.
func canBeTyped(value string) bool {
	return value != "" && !strings.HasPrefix(value, "-") && !strings.HasPrefix(value, "_activeHelp_") &&
		!strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError })
}

// withoutTraps leaves nothing to choose from where bash would type what all of them
// begin with: it does so without quotes, so that a name could hold a command.
func withoutTraps(found []string) []string {
	if len(found) < 2 || !strings.ContainsFunc(commonBeginning(found), meansSomething) {
		return found
	}
	return nil
}

func commonBeginning(all []string) string {
	first := all[0]
	for _, other := range all[1:] {
		for !strings.HasPrefix(other, first) {
			first = first[:len(first)-1]
		}
	}
	return strings.ToValidUTF8(first, "") // no part of a character
}

// meansSomething reports whether a character can mean something else to a shell than
// itself.
func meansSomething(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:=@%+,", r)
}

// takesFile reports whether an argument can be a file: what copy copies in.
func takesFile(path string, args int) bool { return path == "copy" && args > 0 }

func usage(node *kong.Node) string {
	words := []string{node.Name}
	for _, p := range node.Positional {
		word := cmp.Or(p.Tag.PlaceHolder, strings.ToUpper(p.Name))
		if p.IsCumulative() {
			word += "…"
		}
		if !p.Required {
			word = "[" + word + "]"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func addFlag(c *cobra.Command, flag *kong.Flag) {
	short := ""
	if flag.Short != 0 {
		short = string(flag.Short)
	}
	for i, name := range append([]string{flag.Name}, flag.Aliases...) {
		if i > 0 {
			short = ""
		}
		if flag.IsBool() {
			c.Flags().BoolP(name, short, false, flag.Help)
		} else {
			c.Flags().StringP(name, short, "", flag.Help)
			complete(c, name, flag)
		}
		if i > 0 {
			c.Flags().Lookup(name).Hidden = true
		}
	}
}

// complete says what a flag's value may be.
func complete(c *cobra.Command, name string, flag *kong.Flag) {
	var values []string
	for _, v := range flag.EnumSlice() {
		if v != "" {
			values = append(values, v)
		}
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	switch flag.PlaceHolder {
	case "FILE":
		directive = cobra.ShellCompDirectiveDefault
	case "DIR":
		directive = cobra.ShellCompDirectiveFilterDirs
	}
	// It fails for a flag that has one already, which none has.
	_ = c.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, directive
	})
}

// Script writes the completion of a shell: bash, zsh or fish.
func Script(app *kong.Application, shell string, out io.Writer) error {
	root := tree(app, nil)
	var script strings.Builder
	switch shell {
	case "bash":
		return written(out, &script, root.GenBashCompletionV2(&script, true), freestanding)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return written(out, &script, root.GenFishCompletion(&script, true), harmless)
	}
	return fmt.Errorf("there is no completion for %q", shell)
}

// written writes cobra's script, unless that has failed, as it is to be changed.
func written(out io.Writer, script fmt.Stringer, err error, change func(string) (string, error)) error {
	if err != nil {
		return err
	}
	text, err := change(script.String())
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// Asks reports whether a shell's completion is asking.
func Asks(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// Answer answers it.
func Answer(app *kong.Application, args []string, out io.Writer, values Values) error {
	root := tree(app, values)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(io.Discard)
	return root.Execute()
}

// Manual writes a man page for each command into a folder.
func Manual(app *kong.Application, folder, version string) error {
	header := &doc.GenManHeader{Section: "1", Source: "pgbridge " + version, Manual: "pgbridge"}
	return doc.GenManTree(tree(app, func(string, []string, map[string]string) ([]string, bool) { return nil, true }), header, folder)
}
