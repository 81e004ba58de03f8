// Package examples holds scripts, and small clients in its folders.
package examples

import (
	"embed"
	"io/fs"
)

//go:embed schema.sql scripts
var files embed.FS

// Schema returns the SQL that creates the tables the scripts work on.
func Schema() string {
	schema, err := files.ReadFile("schema.sql")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(schema)
}

// Scripts returns the folder of scripts.
func Scripts() fs.FS {
	scripts, err := fs.Sub(files, "scripts")
	if err != nil {
		panic(err) // it is embedded
	}
	return scripts
}
