// Package console is what the commands for people show: tables, messages,
// errors, a pager and a progress bar. Nothing of the server's reaches a terminal
// that the terminal would obey.
package console
