package listen

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lib/pq"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// prepareSQL makes the session one that nobody who may create objects can lead
// astray, and one that delivers a payload as the server has it: with another
// encoding a single payload that cannot be converted would end the session. It
// is a statement and not a startup parameter, because a pooler in session mode
// refuses those that it does not know.
const prepareSQL = `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
	pg_catalog.set_config('client_encoding', 'SQL_ASCII', false), pg_catalog.getdatabaseencoding(),
	` + postgres.InstanceSQL + `, (` + postgres.LastingSQL + `)`

// prepare sets the session up.
func (c *connection) prepare() error {
	if _, err := c.exec("set the transactions' modes", postgres.ModesSQL); err != nil {
		return err
	}
	row, err := c.exec("prepare the session", prepareSQL)
	if err != nil {
		return err
	}
	if len(row) != 5 {
		return fmt.Errorf("prepare the session: the server answered with %d columns", len(row))
	}
	t := translationOf(row[2])
	c.translation.Store(&t)
	c.instance.Store(&row[3])
	return nil
}

// exec runs one statement and returns its first row.
func (c *connection) exec(what, statement string) (row []string, err error) {
	err = c.do(what, func() error {
		c.wire.carry(statement)
		return c.ping()
	})
	return c.wire.brought(), err
}

// follow changes the channels listened to from current to wanted, in one round
// trip for however many.
func (c *connection) follow(current, wanted []string) error {
	statements, err := c.changes(current, wanted)
	if err != nil {
		return err
	}
	if len(statements) <= 1 {
		return c.each(statements)
	}
	one, err := c.oneStatement(statements, wanted)
	if err != nil {
		return err
	}
	_, err = c.exec(fmt.Sprintf("LISTEN and UNLISTEN, %d channels", len(statements)), one)
	if withoutLanguage(err) {
		return c.each(statements)
	}
	return err
}

// oneStatement makes the changes in one transaction. There UNLISTEN * loses nothing,
// and where most channels change it is less work: PostgreSQL looks each channel up
// in a list.
func (c *connection) oneStatement(changes, wanted []string) (string, error) {
	if len(changes) <= len(wanted)+1 {
		return together(changes), nil
	}
	all, err := c.changes(nil, wanted)
	return together(append([]string{"UNLISTEN *"}, all...)), err
}

func (c *connection) each(statements []string) error {
	for _, s := range statements {
		if _, err := c.exec(s, s); err != nil {
			return err
		}
	}
	return nil
}

// withoutLanguage reports whether the server has no PL/pgSQL for this user.
func withoutLanguage(err error) bool {
	state := postgres.SQLState(err)
	return state == "42704" || state == "42501" // undefined_object, insufficient_privilege
}

// changes are the commands that lead from current to wanted.
func (c *connection) changes(current, wanted []string) (statements []string, err error) {
	was, will := setOf(current), setOf(wanted)
	add := func(verb, name string) {
		bytes, fault := c.translation.Load().bytes(name)
		err = errors.Join(err, fault)
		statements = append(statements, verb+" "+pq.QuoteIdentifier(bytes))
	}
	for _, name := range wanted {
		if !was[name] {
			add("LISTEN", name)
		}
	}
	for _, name := range current {
		if !will[name] {
			add("UNLISTEN", name)
		}
	}
	return statements, err
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// together makes one statement of several, because pq takes one answer for one
// query. The commands are literals in it, so that a name can hold anything.
func together(statements []string) string {
	literals := make([]string, len(statements))
	for i, s := range statements {
		literals[i] = pq.QuoteLiteral(s)
	}
	body := "DECLARE s text; BEGIN FOREACH s IN ARRAY ARRAY[" + strings.Join(literals, ",") + "]::text[] LOOP EXECUTE s; END LOOP; END"
	return "DO LANGUAGE plpgsql " + pq.QuoteLiteral(body)
}
