// Package wait holds the ways in which pgbridge waits: for a while, until
// somebody wakes it, again after a failure, on after a stop, and for a file
// that changes. None of them outlives its context, so nothing that waits can
// hold up the end of the process.
package wait
