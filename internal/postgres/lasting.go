package postgres

// LastingSQL takes the time limits off a session that lasts, and may be idle, wait for
// transactions of others or be in the middle of a large one for as long as that takes.
// A role, a database or a server has limits for sessions of another kind; which there
// are depends on its version. Its only row says how many.
const LastingSQL = `SELECT pg_catalog.count(pg_catalog.set_config(name, '0', false)) FROM pg_catalog.pg_settings
	WHERE name OPERATOR(pg_catalog.=) ANY ('{idle_session_timeout,lock_timeout,statement_timeout,transaction_timeout}'::pg_catalog.text[])`
