// Package part names the parts of pgbridge that can keep it from being ready, as
// readiness, the log and the operators' guide name them.
package part

// Part is one of them.
type Part int

// What can keep pgbridge from being ready.
const (
	Listener        Part = iota // the connection that listens
	Control                     // the session with the lock and the markers
	Marker                      // the way of a notification there and back
	Lock                        // which replica publishes
	Others                      // where other replicas are
	Publish                     // events over core NATS
	Stream                      // the stream of events
	PublishToStream             // events into it
	Durable                     // the slot of the durable channels, and their stream
	Events                      // NATS, the connection for events
	Requests                    // NATS, the one for requests
	Transactions                // NATS, the one for transactions, cursors, copies and jobs
	Served                      // the subjects of requests
	Runs                        // PostgreSQL, the connections for requests
	Scripts                     // the folder
	Jobs                        // their streams and their table
	count
)

// String returns the part's name.
func (p Part) String() string {
	return [count]string{
		Listener: "listener", Control: "control session", Marker: "marker", Lock: "publishing lock", Others: "other replicas",
		Publish: "publish", Stream: "stream", PublishToStream: "publish to the stream",
		Durable: "durable channels", Events: "NATS, events", Requests: "NATS, requests", Transactions: "NATS, transactions", Served: "requests", Runs: "PostgreSQL, requests", Scripts: "scripts", Jobs: "jobs",
	}[p]
}

// Problem is the line that says what is wrong with the part.
func (p Part) Problem(what string) string { return p.String() + ": " + what }

// All returns every part.
func All() []Part {
	all := make([]Part, count)
	for i := range all {
		all[i] = Part(i)
	}
	return all
}
