// Package pgserver runs a private, throw-away PostgreSQL server: its own data
// directory, loopback port, socket and password, all of them gone after Close.
//
// A Server is in one of three states:
//
//	            Stop, Kill, or a death of its own
//	          ┌──────────────────────────────────┐
//	Start ─▶ running ◀────── StartAgain ────── stopped
//	          └────────────▶ closed ◀────────────┘
//	                Close            Close
//
// It promises that nothing outlives its owner: on Linux the server dies with
// the process that started it, however that process ends, and a directory left
// behind by a killed process is removed by the next Start. On macOS the next
// Start ends such a server first. A root process runs the server as another
// user, because PostgreSQL refuses to run as root.
package pgserver
