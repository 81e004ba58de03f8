package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// typed are scripts that are hard to write types of.
var typed = map[string]string{
	"kinds": `-- Every kind of type. */ " ` + "`" + ` \
SELECT @b::bool AS b, @s::int2 AS s, @i::int4 AS i, @l::int8 AS l, @n::numeric AS n, @f::float8 AS f, @t::text AS t,
	@j::jsonb AS j, @d::date AS d, @ts::text[] AS ts, @ls::int8[] AS ls, @js::json[] AS js,
	'x'::text AS "odd, ""name", 1 AS twice, 'a'::text AS twice, 'y' AS "größe", 'z' AS fields, 'm' AS "-"`,
	"orders_search":  "SELECT @both::int4 AS n; SELECT @both::text AS t",
	"2nd":            "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP; SELECT id FROM scratch WHERE id = @id",
	"orders/by-name": "SELECT o.id, n.id AS next, o.total FROM orders o LEFT JOIN orders n ON n.id > o.id WHERE o.customer = @name",
}

// TestTypesInGo compiles them, and reads a row by them.
func TestTypesInGo(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	for name, text := range typed {
		s.write(t, name, text)
	}
	s.serve(t)
	dir := t.TempDir()
	r := call(t, nil, "describe", "--types", "go", "--package", "main", "--nats", s.bus.URL())
	if r.code != exitOK {
		t.Fatalf("code %d: %s", r.code, r.stderr)
	}
	row := s.run(t, "kinds", "b=true", "s=1", "i=2", "l=9007199254740993", "n=0.10", "f=NaN", "t=x", `j:={"a": 1}`, "d=2026-01-02",
		`ts:=["a", null]`, `ls:=[1]`, "js:=null", "--json")
	var reply struct {
		Results []struct{ Rows []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(row.stdout), &reply); err != nil {
		t.Fatalf("%v: %s %s", err, row.stdout, row.stderr)
	}
	for file, text := range map[string]string{"scripts.go": r.stdout, "go.mod": "module typed\n\ngo 1.26\n", "main.go": readsRow} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "run", ".", string(reply.Results[0].Rows[0]))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.CombinedOutput()
	want := `true 1 2 9007199254740993 0.10 NaN x {"a": 1} 2026-01-02 a true 1 [] x 1 a y z m
{"id":1} {"both":"either","id":null,"name":null}
{"source":null,"target":2,"amount":"10.50"}
`
	if string(out) != want {
		t.Errorf("%v, it says\n%s\nwant\n%s\nof\n%s", err, out, want, r.stdout)
	}
}

const readsRow = `package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	var values []json.RawMessage
	if err := json.Unmarshal([]byte(os.Args[1]), &values); err != nil {
		panic(err)
	}
	var r KindsRow
	for i, into := range r.Fields() {
		if err := json.Unmarshal(values[i], into); err != nil {
			panic(err)
		}
	}
	fmt.Println(*r.B, *r.S, *r.I, *r.L, *r.N, *r.F, *r.T, string(r.J), *r.D, *r.Ts[0], r.Ts[1] == nil, *r.Ls[0], r.Js,
		*r.OddName, *r.Twice, *r.Twice2, *r.GrE, *r.Fields2, *r.X)
	var account AccountRow // in which nothing is NULL
	account.Id, account.Owner, account.Balance = 1, "Ada", "5"
	var ordered OrdersByNameRow
	ordered.Next, ordered.Total = nil, nil // for there is an outer join
	print := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	two, amount := int64(2), Numeric("10.50")
	fmt.Println(print(AccountParams{Id: new(int64(1))}.Map()),
		print(map[string]any{"both": OrdersSearchParams2{Both: "either"}.Both, "id": X2ndParams{}.Id, "name": OrdersByNameParams{}.Name}))
	fmt.Println(print(TransferParams{Target: &two, Amount: &amount}))
}
`

// A script that cannot be described leaves no half of a file.
func TestTypesAreWhole(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "z", "SELECT 1 FROM nothing")
	s.serve(t)
	for _, language := range []string{"typescript", "go", "jsonschema"} {
		r := call(t, nil, "describe", "--types", language, "--nats", s.bus.URL())
		wantResult(t, r, exitFailed, "", "the script z:\npgbridge: sql_error")
		if r.stdout != "" {
			t.Errorf("%s: %s", language, r.stdout)
		}
		r = call(t, nil, "describe", "account", "--types", language, "--nats", s.bus.URL())
		wantResult(t, r, exitOK, "ccount", "")
		if strings.Contains(strings.ToLower(r.stdout), "transfer") {
			t.Errorf("%s of one script: %s", language, r.stdout)
		}
	}
	wantResult(t, call(t, nil, "describe", "--types", "go", "--package", "no name", "--nats", s.bus.URL(), "account"), exitFailed, "", `"no name" is no name for a package`)
	wantResult(t, call(t, nil, "describe", "--types", "cobol"), exitUsage, "", "cobol")
}
