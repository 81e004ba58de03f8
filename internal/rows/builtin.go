package rows

// builtin is a type that has the same OID in every PostgreSQL.
type builtin struct {
	oid, array uint32 // array is 0 where the type has none
	name       string
	form       form
}

// builtins are the types that results and parameters usually have. The others
// of pg_catalog are looked up like a user's.
//
// Source: https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat
func builtins() []builtin { //nolint:funlen // a table
	return []builtin{
		{16, 1000, "bool", formBool},
		{17, 1001, "bytea", formText},
		{18, 1002, "char", formText},
		{19, 1003, "name", formText},
		{20, 1016, "int8", formBigNumber},
		{21, 1005, "int2", formNumber},
		{22, 1006, "int2vector", formText},
		{23, 1007, "int4", formNumber},
		{24, 1008, "regproc", formText},
		{25, 1009, "text", formText},
		{26, 1028, "oid", formText},
		{27, 1010, "tid", formText},
		{28, 1011, "xid", formText},
		{29, 1012, "cid", formText},
		{30, 1013, "oidvector", formText},
		{114, 199, "json", formJSON},
		{142, 143, "xml", formText},
		{600, 1017, "point", formText},
		{601, 1018, "lseg", formText},
		{602, 1019, "path", formText},
		{603, 1020, "box", formText},
		{604, 1027, "polygon", formText},
		{628, 629, "line", formText},
		{650, 651, "cidr", formText},
		{700, 1021, "float4", formNumber},
		{701, 1022, "float8", formNumber},
		{705, 0, "unknown", formText},
		{718, 719, "circle", formText},
		{774, 775, "macaddr8", formText},
		{790, 791, "money", formText},
		{829, 1040, "macaddr", formText},
		{869, 1041, "inet", formText},
		{1042, 1014, "bpchar", formText},
		{1043, 1015, "varchar", formText},
		{1082, 1182, "date", formText},
		{1083, 1183, "time", formText},
		{1114, 1115, "timestamp", formText},
		{1184, 1185, "timestamptz", formText},
		{1186, 1187, "interval", formText},
		{1266, 1270, "timetz", formText},
		{1560, 1561, "bit", formText},
		{1562, 1563, "varbit", formText},
		{1700, 1231, "numeric", formBigNumber},
		{1790, 2201, "refcursor", formText},
		{2205, 2210, "regclass", formText},
		{2206, 2211, "regtype", formText},
		{2249, 2287, "record", formText},
		{2275, 1263, "cstring", formText},
		{2278, 0, "void", formText},
		{2950, 2951, "uuid", formText},
		{3220, 3221, "pg_lsn", formText},
		{3614, 3643, "tsvector", formText},
		{3615, 3645, "tsquery", formText},
		{3802, 3807, "jsonb", formJSON},
		{3904, 3905, "int4range", formText},
		{3906, 3907, "numrange", formText},
		{3908, 3909, "tsrange", formText},
		{3910, 3911, "tstzrange", formText},
		{3912, 3913, "daterange", formText},
		{3926, 3927, "int8range", formText},
		{4072, 4073, "jsonpath", formText},
		{4451, 6150, "int4multirange", formText},
		{4532, 6151, "nummultirange", formText},
		{4533, 6152, "tsmultirange", formText},
		{4534, 6153, "tstzmultirange", formText},
		{4535, 6155, "datemultirange", formText},
		{4536, 6157, "int8multirange", formText},
		{5038, 5039, "pg_snapshot", formText},
		{5069, 271, "xid8", formText},
	}
}

func builtinTypes() map[uint32]*Type {
	all := builtins()
	types := make(map[uint32]*Type, 2*len(all))
	for _, b := range all {
		t := textType(b.name)
		t.form = b.form
		if b.name == "box" {
			t.delimiter = ';' // a box holds commas
		}
		types[b.oid] = t
		if b.array != 0 {
			types[b.array] = arrayOf(t, t.delimiter)
		}
	}
	return types
}
