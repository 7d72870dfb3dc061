package nucleus

var (
	ParseJavaVersion = parseJavaVersion
	ParseControl     = func(b []byte) (name, version string, err error) {
		p, err := parseControl(b)
		return p.name, p.version, err
	}
	ParseDepends = func(s string) (out []string) {
		for _, a := range parseDepends(s) {
			out = append(out, a.String())
		}
		return out
	}
	UnitRoot = unitRoot
)
