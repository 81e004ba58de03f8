// Package rows turns result rows in PostgreSQL's text format into JSON, and
// JSON values of a request into parameters in that format. No Go values come in
// between: a number keeps every digit that PostgreSQL printed, and a row costs
// no allocation.
//
// It promises:
//
//   - What it appends is valid JSON for whatever bytes it gets, json and jsonb
//     excepted, which are embedded as PostgreSQL printed them. Text that is not
//     what its type should look like becomes a JSON string.
//   - bool, int2, int4, int8, float4, float8 and numeric become JSON literals;
//     NaN and the infinities, for which JSON has no literal, strings. Arrays
//     become JSON arrays of any depth, whatever their bounds. A domain is
//     written like its base type. Everything else becomes a string, with control
//     characters escaped exactly as PostgreSQL's to_json does.
//   - A value that it wrote, passed back as a parameter of the same type, is
//     the same value again, but for an array's lower bounds and JSON's null.
//   - No error holds a value.
//
// The connection must use the client encoding UTF8. How dates, intervals and
// bytea look is the session's business.
package rows
