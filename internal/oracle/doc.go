// Package oracle holds no code, only a test: that whatever happens to the tables
// meanwhile, a script answers what PostgreSQL itself answers to its statements.
// Random scripts are run as requests, on pinned transactions and as cursors,
// while another session changes the schema at random; a plain connection runs
// the same statements, one by one and with its parameters written into them, on
// a second database to which the same changes were made. Rows, types, SQLSTATEs
// and what is in the tables must be alike.
//
// What may differ: a run that is executed again after a change of the schema takes
// another number from a sequence, a script one of whose statements PostgreSQL cannot
// prepare does nothing at all, and where types are found at each execution the new
// name of a renamed type may come later.
//
// It is built with the tag oracle, and run by make oracle and for a moment by make
// check.
package oracle
