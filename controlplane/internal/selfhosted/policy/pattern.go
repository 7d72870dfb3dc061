package policy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a text with wildcards and variables: its chunks are what stands
// between the stars. "*" is two empty chunks.
type pattern struct {
	chunks [][]part
}

// part is a literal, one arbitrary character, or a variable.
type part struct {
	kind partKind
	text string   // of a literal
	v    variable // of a variable
}

type partKind uint8

const (
	literal partKind = iota
	anyOne
	substituted
)

// compile reads s. With vars false, ${...} is plain text, as documents of
// version 2008-10-17 have it.
func compile(s string, vars bool) pattern {
	var p pattern
	var chunk []part
	lit := func(t string) {
		if t == "" {
			return
		}
		if n := len(chunk); n > 0 && chunk[n-1].kind == literal {
			chunk[n-1].text += t
			return
		}
		chunk = append(chunk, part{text: t})
	}
	for s != "" {
		i := strings.IndexAny(s, "*?$")
		if i < 0 {
			lit(s)
			break
		}
		lit(s[:i])
		s = s[i:]
		switch {
		case s[0] == '*':
			p.chunks = append(p.chunks, chunk)
			chunk = nil
			s = s[1:]
		case s[0] == '?':
			chunk = append(chunk, part{kind: anyOne})
			s = s[1:]
		default:
			name, rest, ok := cutVariable(s)
			if ok && vars {
				chunk = append(chunk, part{kind: substituted, v: parseVariable(name)})
				s = rest
				continue
			}
			lit("$")
			s = s[1:]
		}
	}
	p.chunks = append(p.chunks, chunk)
	return p
}

// cutVariable splits "${name}rest".
func cutVariable(s string) (name, rest string, ok bool) {
	if !strings.HasPrefix(s, "${") {
		return "", "", false
	}
	return strings.Cut(s[2:], "}")
}

// match reports whether the whole of s fits. The first chunk stands at the
// start and the last at the end; those between are taken leftmost, which finds
// a match whenever there is one.
func (p *pattern) match(s string, v *Vars) bool {
	last := len(p.chunks) - 1
	pos, ok := matchChunk(p.chunks[0], s, 0, v)
	if !ok {
		return false
	}
	if last == 0 {
		return pos == len(s)
	}
	for _, c := range p.chunks[1:last] {
		if pos, ok = findChunk(c, s, pos, v); !ok {
			return false
		}
	}
	return endsWithChunk(p.chunks[last], s, pos, v)
}

func findChunk(c []part, s string, from int, v *Vars) (int, bool) {
	for ; from <= len(s); from += step(s, from) {
		if len(c) > 0 && c[0].kind == literal {
			i := strings.Index(s[from:], c[0].text)
			if i < 0 {
				return 0, false
			}
			from += i
		}
		if end, ok := matchChunk(c, s, from, v); ok {
			return end, true
		}
	}
	return 0, false
}

func endsWithChunk(c []part, s string, from int, v *Vars) bool {
	if len(c) == 0 {
		return true
	}
	if len(c) == 1 && c[0].kind == literal {
		return len(s)-from >= len(c[0].text) && strings.HasSuffix(s, c[0].text)
	}
	for ; from <= len(s); from += step(s, from) {
		if end, ok := matchChunk(c, s, from, v); ok && end == len(s) {
			return true
		}
	}
	return false
}

// step is the width of the character at i, at least one.
func step(s string, i int) int {
	if i >= len(s) || s[i] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s[i:])
	return n
}

// matchChunk matches the parts of c at s[pos:] and returns where they end.
func matchChunk(c []part, s string, pos int, v *Vars) (int, bool) {
	for i := range c {
		text := c[i].text
		switch c[i].kind {
		case anyOne:
			if pos >= len(s) {
				return 0, false
			}
			pos += step(s, pos)
			continue
		case substituted:
			value, ok := v.substitute(c[i].v)
			if !ok {
				return 0, false
			}
			text = value
		case literal:
		}
		if !strings.HasPrefix(s[pos:], text) {
			return 0, false
		}
		pos += len(text)
	}
	return pos, true
}

// render returns the text of a pattern without wildcards.
func (p *pattern) render(v *Vars) (string, bool) {
	var b strings.Builder
	for _, c := range p.chunks[0] {
		text := c.text
		if c.kind == substituted {
			value, ok := v.substitute(c.v)
			if !ok {
				return "", false
			}
			text = value
		}
		b.WriteString(text)
	}
	return b.String(), true
}
