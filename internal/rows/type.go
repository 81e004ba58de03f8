package rows

// Type is one PostgreSQL type, as far as values need it. It does not change and
// is safe for concurrent use. [Catalog.Types] makes it.
type Type struct {
	name      string
	form      form
	elem      *Type // of an array
	delimiter byte  // between the elements of an array of this type
}

// form is how a type's text becomes JSON and the other way round.
type form uint8

const (
	formText      form = iota // a JSON string
	formBool                  // true or false
	formNumber                // a JSON number where it is one
	formBigNumber             // the same, for types whose values a float64 cannot hold
	formJSON                  // embedded as it is; bytes that are not UTF-8 are a string
	formArray                 // a JSON array
)

// Name returns the name that clients see: typname, an array's element's name
// with [] after it, a domain's base type's name.
func (t *Type) Name() string { return t.name }

// quoteBigNumbers returns the type that writes int8 and numeric as strings.
func (t *Type) quoteBigNumbers() *Type {
	quoted := *t
	switch t.form {
	case formBigNumber:
		quoted.form = formText
	case formArray:
		quoted.elem = t.elem.quoteBigNumbers()
	}
	return &quoted
}

func appendBool(dst, text []byte) []byte {
	switch string(text) {
	case "t":
		return append(dst, "true"...)
	case "f":
		return append(dst, "false"...)
	}
	return appendString(dst, text)
}

func appendNumber(dst, text []byte) []byte {
	if isNumber(text) {
		return append(dst, text...)
	}
	return appendString(dst, text)
}

// isNumber reports whether s is a JSON number. PostgreSQL's are, all but NaN
// and the infinities.
func isNumber(s []byte) bool {
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	s = s[whole:]
	if len(s) > 0 && s[0] == '.' {
		fraction := digits(s[1:])
		if fraction == 0 {
			return false
		}
		s = s[1+fraction:]
	}
	return len(s) == 0 || isExponent(s)
}

func isExponent(s []byte) bool {
	if s[0]|0x20 != 'e' {
		return false
	}
	s = s[1:]
	if len(s) > 0 && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return len(s) > 0 && digits(s) == len(s)
}

// digits returns how many digits s begins with.
func digits(s []byte) int {
	for i, c := range s {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(s)
}

func textType(name string) *Type { return &Type{name: name, delimiter: ','} }

func arrayOf(elem *Type, delimiter byte) *Type {
	return &Type{name: elem.name + "[]", form: formArray, elem: elem, delimiter: delimiter}
}
