package rows

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Catalog remembers the types of one database. Those that every PostgreSQL has
// it knows from the start. It is safe for concurrent use.
type Catalog struct {
	mu    sync.RWMutex // guards types and the map
	types map[uint32]*Type
}

// maxTypes is how many types are remembered, so that new ones all the time do
// not fill the memory. The ones in use are soon looked up again.
const maxTypes = 10_000

// Lookup reads the rows of pg_type with these OIDs, and of every type that they
// refer to by Base and Element, directly or not. An OID that does not exist has
// no row. [LookupOn] makes one. Types that a transaction has created are only
// visible on its own connection.
type Lookup func(ctx context.Context, oids []uint32) ([]TypeRow, error)

// TypeRow is what a catalog needs of a row of pg_type.
type TypeRow struct {
	OID       uint32
	Name      string
	Delimiter byte   // typdelim
	Base      uint32 // of a domain, else 0
	Element   uint32 // of a type whose values are written as an array, else 0
}

// NewCatalog returns a catalog that knows the built-in types.
func NewCatalog() *Catalog { return &Catalog{types: builtinTypes()} }

// Flush forgets what was looked up, as after DDL that renames types. What was
// made from it stays as it is.
func (c *Catalog) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.types = builtinTypes()
}

// Types returns the types with these OIDs, in their order. It asks lookup, and
// blocks as long, only when some are not known yet; the error is lookup's. A
// type that does not exist, because it was dropped since the statement ran, is
// named unknown, its values are strings, and it is not remembered.
func (c *Catalog) Types(ctx context.Context, lookup Lookup, oids []uint32) ([]*Type, error) {
	types, missing, known := c.find(oids)
	if len(missing) == 0 {
		return types, nil
	}
	found, err := lookup(ctx, missing)
	if err != nil {
		return nil, err
	}
	c.remember(known, found)
	unknown := textType("unknown")
	for i, oid := range oids {
		if types[i] != nil {
			continue
		}
		types[i] = c.get(known, oid)
		if types[i] == nil {
			types[i] = unknown
		}
	}
	return types, nil
}

// Knows reports whether the types of these fields are known, so that describing
// them asks nobody.
func (c *Catalog) Knows(described []pgconn.FieldDescription) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i := range described {
		if c.types[described[i].DataTypeOID] == nil {
			return false
		}
	}
	return true
}

// find returns the types that are known, the OIDs that are not, and the map
// that was asked.
func (c *Catalog) find(oids []uint32) (types []*Type, missing []uint32, known map[uint32]*Type) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	types = make([]*Type, len(oids))
	for i, oid := range oids {
		types[i] = c.types[oid]
		if types[i] == nil && !slices.Contains(missing, oid) {
			missing = append(missing, oid)
		}
	}
	return types, missing, c.types
}

func (c *Catalog) get(known map[uint32]*Type, oid uint32) *Type {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return known[oid]
}

// remember adds what was found to the map that did not have it: after a Flush
// meanwhile that is no longer the catalog's.
func (c *Catalog) remember(known map[uint32]*Type, found []TypeRow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := resolver{known: known, rows: make(map[uint32]TypeRow, len(found))}
	for _, row := range found {
		r.rows[row.OID] = row
	}
	for _, row := range found {
		r.resolve(row.OID)
	}
	if len(c.types) > maxTypes { // temporary tables are types too, and never the same
		c.types = builtinTypes()
	}
}

type resolver struct {
	known map[uint32]*Type
	rows  map[uint32]TypeRow // not resolved yet
}

// resolve returns the type, or nil where neither it nor a row of it is known.
func (r *resolver) resolve(oid uint32) *Type {
	row, ok := r.rows[oid]
	if r.known[oid] != nil || !ok {
		return r.known[oid]
	}
	delete(r.rows, oid) // ends a cycle, which PostgreSQL does not have
	t := r.build(row)
	if t != nil {
		r.known[oid] = t
	}
	return t
}

func (r *resolver) build(row TypeRow) *Type {
	switch {
	case row.Base != 0:
		base := r.resolve(row.Base)
		if base == nil {
			return nil
		}
		domain := *base
		domain.delimiter = row.Delimiter
		return &domain
	case row.Element != 0:
		elem := r.resolve(row.Element)
		if elem == nil {
			return nil
		}
		return arrayOf(elem, row.Delimiter)
	}
	t := textType(row.Name)
	t.delimiter = row.Delimiter
	return t
}
