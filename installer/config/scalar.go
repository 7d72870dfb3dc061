package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// scalar returns s as a YAML scalar that every reader takes for the text s,
// whether it follows YAML 1.1 (classic) or 1.2: plain where that is safe, else
// in double quotes.
func scalar(s string) string {
	if plainSafe(s) && !looksTyped(s) {
		return s
	}
	return quoted(s)
}

// plainSafe reports whether s without quotes is one plain scalar, also inside a
// flow collection. It refuses a little more than YAML does.
func plainSafe(s string) bool {
	if s == "" || strings.ContainsAny(s[:1], "-?:!&*|>'\"%@`# ") || strings.HasSuffix(s, ":") || strings.HasSuffix(s, " ") {
		return false
	}
	if strings.ContainsAny(s, ",[]{}") || strings.Contains(s, ": ") || strings.Contains(s, " #") {
		return false
	}
	for _, r := range s {
		if r == ' ' || r < 0x7f && unicode.IsPrint(r) || r > 0xa0 && r < 0xd800 && (unicode.IsLetter(r) || unicode.IsNumber(r)) {
			continue
		}
		return false
	}
	return true
}

// The forms that one or the other YAML version reads as something else than
// text. A value that merely resembles one is quoted too: quotes never harm.
var (
	wordForms   = regexp.MustCompile(`^(?i:~|null|true|false|yes|no|on|off|y|n|[-+]?\.inf|\.nan|=|<<)$`)
	numberForms = regexp.MustCompile(`^[-+]?(?:[0-9][0-9_]*)?\.?[0-9_]*(?:[eE][-+]?[0-9]+)?$`)
	baseForms   = regexp.MustCompile(`^[-+]?0[xXoObB][0-9a-fA-F_]*$`)
	base60Forms = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?$`)
	dateForms   = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:$|[Tt\s])`)
)

func looksTyped(s string) bool {
	return wordForms.MatchString(s) || numberForms.MatchString(s) || baseForms.MatchString(s) ||
		base60Forms.MatchString(s) || dateForms.MatchString(s)
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == ' ' || unicode.IsPrint(r) && r != 0xfeff:
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02X`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
