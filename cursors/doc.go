// Package cursors reads query results in pages, through cursors in pinned
// transactions. It is an extension of package txrunner.
//
// A request to <prefix>.cursor.<script> declares a cursor over the script's
// last statement and answers with its first page; the verbs fetch, move, stream
// and close act on it. What it promises:
//
//   - Every row once: read forward, the pages hold each row of the result once
//     and in order, however a page was cut to fit a message. After a move or in
//     the other direction they hold exactly the rows that FETCH would return.
//   - A lost reply loses nothing: a page that is asked for again under its
//     number is the same page.
//   - The transaction survives: what PostgreSQL would refuse at its cost, such
//     as a backward move without scroll or an unknown cursor, is refused before
//     PostgreSQL sees it.
//   - Memory does not grow with the result, nor with the size of its rows
//     beyond the one row that is being read.
//   - A row that does not fit a message is an error which names it; the cursor
//     then stands on it and goes on behind it.
//
// # Positions
//
// A result of N rows has N+2 positions, as in PostgreSQL: before the first row
// (0), on a row (1 to N) and after the last (N+1).
//
//	0       1       2      …      N      N+1
//	├───────●───────●─────────────●───────┤
//	        forward n ►     ◄ backward n
//
// A move forward by n ends on row client+n, or at N+1 where that does not exist; a
// move backward on client-n, or at 0. Each row that is stepped on is returned.
// absolute and relative name the row to end on, and return it alone. So N is
// known once the end was reached, and the position too: every move is counted
// from a known one, absolute -n included, which goes to the end first. Only a script
// can move a cursor unseen. With scroll rows are then numbered from somewhere, which
// is enough to go forward and backward, and counted when a number matters.
//
// A cursor has two positions, the client's and PostgreSQL's. They differ when a
// page was cut because bytes ran out:
//
//	client         server
//	 ▼               ▼
//	─●───○───○───○───○──
//	     read from PostgreSQL, not sent
//
// With scroll those rows are thrown away, and the next request begins with a
// MOVE back to the client's, in the same round trip. Without scroll PostgreSQL cannot
// move back: the rows are kept, already encoded, and sent first. How many rows
// are asked for at a time follows from the sizes of those seen before, so that
// few are read in vain and little is kept.
//
// A script that uses the cursor has to find it where its client stands: PostgreSQL is
// moved back before it, or, where it cannot be, the script is refused.
//
// Forward, rows are read by executing the cursor as the portal that it is, and
// backward with FETCH: see [session.Pipeline.Ask].
package cursors
