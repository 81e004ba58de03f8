package rows

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestBuiltinTypesAreTheServers(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	known := builtinTypes()
	var oids []uint32
	for oid := range known {
		oids = append(oids, oid)
	}
	found, err := LookupOn(s.conn)(t.Context(), oids)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(known) {
		t.Errorf("the server has %d of the built-in types, want %d", len(found), len(known))
	}
	for _, row := range found {
		checkBuiltin(t, known, row)
	}
}

func checkBuiltin(t *testing.T, known map[uint32]*Type, row TypeRow) {
	t.Helper()
	b := known[row.OID]
	name := row.Name
	if row.Element != 0 {
		name = known[row.Element].Name() + "[]"
	}
	if b.Name() != name || b.delimiter != row.Delimiter || b.elem != known[row.Element] || row.Base != 0 {
		t.Errorf("type %d is %+v, want %+v", row.OID, b, row)
	}
}

func TestCatalogAsksOnce(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	asked := 0
	lookup := func(ctx context.Context, oids []uint32) ([]TypeRow, error) {
		asked++
		return LookupOn(s.conn)(ctx, oids)
	}
	result := s.conn.ExecParams(t.Context(), `SELECT NULL::mood[], NULL::mood, NULL::pair, NULL::cells[], NULL::mood, 1`, nil, nil, nil, nil).Read()
	for _, want := range []int{1, 1} {
		if _, err := s.catalog.Columns(t.Context(), lookup, result.FieldDescriptions); err != nil || asked != want {
			t.Errorf("asked %d times, want %d (%v)", asked, want, err)
		}
	}
	s.catalog.Flush()
	if _, err := s.catalog.Columns(t.Context(), lookup, result.FieldDescriptions); err != nil || asked != 2 {
		t.Errorf("after Flush: asked %d times, want 2 (%v)", asked, err)
	}
}

func TestBuiltinTypesNeedNoLookup(t *testing.T) {
	t.Parallel()
	types, err := NewCatalog().Types(t.Context(), nil, []uint32{20, 1009, 2278, 20})
	if err != nil || types[0].Name() != "int8" || types[1].Name() != "text[]" || types[2].Name() != "void" || types[3] != types[0] {
		t.Errorf("Types = %v, %v", types, err)
	}
}

func TestTypeOfTheTransaction(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.query(t, `BEGIN`)
	s.query(t, `CREATE TYPE shade AS ENUM ('dark')`)
	if result, columns := s.query(t, `SELECT ARRAY['dark'::shade]`); row(result, columns) != `[["dark"]]` {
		t.Errorf("AppendRow = %s", row(result, columns))
	}
	s.query(t, `ROLLBACK`)
}

func TestDroppedType(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	result := s.conn.ExecParams(t.Context(), `SELECT '{sad,""}'::mood[], 5`, nil, nil, nil, nil).Read()
	s.query(t, `DROP TYPE mood`)
	columns, err := s.catalog.Columns(t.Context(), LookupOn(s.conn), result.FieldDescriptions)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := row(result, columns), `["{sad,\"\"}",5]`; got != want {
		t.Errorf("AppendRow = %s, want %s", got, want)
	}
	if got, want := columns.types[0].Name(), "unknown"; got != want {
		t.Errorf("Name = %s, want %s", got, want)
	}
}

func TestLookupFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("gone")
	_, err := NewCatalog().Types(t.Context(), func(context.Context, []uint32) ([]TypeRow, error) { return nil, fault }, []uint32{20, 99999})
	if !errors.Is(err, fault) {
		t.Errorf("Types: %v, want %v", err, fault)
	}
}

func TestFlushDuringALookup(t *testing.T) {
	t.Parallel()
	c := NewCatalog()
	name := "old"
	lookup := func(_ context.Context, oids []uint32) ([]TypeRow, error) {
		if name == "old" {
			c.Flush()
		}
		return []TypeRow{{OID: oids[0], Name: name, Delimiter: ','}}, nil
	}
	var got []string
	for _, name = range []string{"old", "new"} {
		types, err := c.Types(t.Context(), lookup, []uint32{99999})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, types[0].Name())
	}
	if want := []string{"old", "new"}; !slices.Equal(got, want) {
		t.Errorf("names = %v, want %v", got, want)
	}
}

func TestRowsThatReferToEachOther(t *testing.T) {
	t.Parallel()
	lookup := func(context.Context, []uint32) ([]TypeRow, error) {
		return []TypeRow{{OID: 90001, Base: 90002}, {OID: 90002, Element: 90001}, {OID: 90003, Base: 90004}}, nil
	}
	types, err := NewCatalog().Types(t.Context(), lookup, []uint32{90001, 90002, 90003})
	if err != nil {
		t.Fatal(err)
	}
	for i, typ := range types {
		if typ.Name() != "unknown" {
			t.Errorf("type %d is %s, want unknown", i, typ.Name())
		}
	}
}

func TestCatalogIsBounded(t *testing.T) {
	t.Parallel()
	c := NewCatalog()
	lookup := func(_ context.Context, oids []uint32) ([]TypeRow, error) {
		return []TypeRow{{OID: oids[0], Name: "scratch", Delimiter: ','}}, nil
	}
	for oid := range uint32(3 * maxTypes) {
		types, err := c.Types(t.Context(), lookup, []uint32{1<<20 + oid})
		if err != nil || types[0].Name() != "scratch" {
			t.Fatalf("type %d is %+v, %v", oid, types, err)
		}
	}
	if n := len(c.types); n > maxTypes {
		t.Errorf("%d types are remembered, want at most %d", n, maxTypes)
	}
}
