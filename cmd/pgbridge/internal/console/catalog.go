package console

import "github.com/pgbridge/pgbridge/client"

// Catalog is what ls prints as JSON.
type Catalog struct {
	Scripts  []ListedScript  `json:"scripts"`
	Channels []ListedChannel `json:"channels,omitempty"`
}

// ListedScript is a script in a list.
type ListedScript struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Cursor      bool   `json:"cursor"`
	Description string `json:"description"`
}

// ListedChannel is a channel in a list.
type ListedChannel struct {
	Name     string `json:"name"`
	Subject  string `json:"subject"`
	Delivery string `json:"delivery"`
}

// Listed are scripts as ls and describe print them as JSON.
func Listed(scripts []client.ScriptInfo) []ListedScript {
	all := []ListedScript{}
	for _, s := range scripts {
		all = append(all, ListedScript{s.Name, string(s.Kind), s.Cursor, s.Description})
	}
	return all
}

// DescribedScript is what describe prints as JSON.
type DescribedScript struct {
	ListedScript
	Parameters []DescribedParameter `json:"parameters"`
	Columns    []DescribedColumn    `json:"columns"` // null: none, or not known before a run
}

// DescribedParameter is a parameter of a script.
type DescribedParameter struct {
	Name  string   `json:"name"`
	Types []string `json:"types"`
}

// DescribedColumn is a column of what a script returns.
type DescribedColumn struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	NotNull bool   `json:"not_null,omitempty"`
}

// Described is a script as describe prints it as JSON.
func Described(d *client.Description) DescribedScript {
	out := DescribedScript{ListedScript: Listed([]client.ScriptInfo{d.Info})[0], Parameters: []DescribedParameter{}}
	for _, p := range d.Parameters {
		out.Parameters = append(out.Parameters, DescribedParameter(p))
	}
	for _, c := range d.Columns {
		out.Columns = append(out.Columns, DescribedColumn(c))
	}
	return out
}
