package config

import (
	"bytes"
	"strings"
)

// mapping is a YAML mapping in the order in which it is written. The documents
// are written line by line because existing clients compare them byte by byte:
// order, indent and quoting must not depend on a YAML library.
type mapping []entry

// entry is one member of a mapping: its value is a mapping, or a string that is
// written as it stands (made by scalar or flow).
type entry struct {
	key   string
	value any
}

// yaml returns m as a document.
func (m mapping) yaml() []byte {
	b := bytes.NewBufferString("---\n")
	m.write(b, 0)
	return b.Bytes()
}

func (m mapping) write(b *bytes.Buffer, indent int) {
	for _, e := range m {
		b.WriteString(strings.Repeat("  ", indent))
		b.WriteString(scalar(e.key))
		b.WriteByte(':')
		switch v := e.value.(type) {
		case mapping:
			if len(v) == 0 {
				b.WriteString(" {}\n")
				continue
			}
			b.WriteByte('\n')
			v.write(b, indent+1)
		case string:
			b.WriteString(" " + v + "\n")
		}
	}
}
