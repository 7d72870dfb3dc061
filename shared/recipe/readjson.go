package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

type jsonReader struct {
	src  []byte
	dec  *json.Decoder
	seen int // at was counted up to here
	at   pos
	budget
}

func readJSON(src []byte) (*value, error) {
	r := &jsonReader{src: src, dec: json.NewDecoder(bytes.NewReader(src)), at: pos{1, 1}}
	r.dec.UseNumber()
	v, err := r.value(nil, 0)
	if err != nil {
		return nil, err
	}
	end := r.next()
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, at("", end, "there is text after the end of the JSON object")
	}
	return v, nil
}

// next is the place where the next token begins.
func (r *jsonReader) next() pos {
	off := min(int(r.dec.InputOffset()), len(r.src))
	for off < len(r.src) && bytes.IndexByte([]byte(" \t\r\n,:"), r.src[off]) >= 0 {
		off++
	}
	if off > r.seen {
		p := posOf(r.src[r.seen:], off-r.seen)
		if p.line == 1 { // still on the line of what was seen
			p.column += r.at.column - 1
		}
		r.at, r.seen = pos{r.at.line + p.line - 1, p.column}, off
	}
	return r.at
}

func (r *jsonReader) token(t *trail) (json.Token, error) {
	tok, err := r.dec.Token()
	if err == nil {
		return tok, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, at(t.String(), posOf(r.src, len(r.src)), "the JSON text ends too early")
	}
	where := r.next()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		where = posOf(r.src, max(r.seen, int(e.Offset)-1)) // inside of a token
	}
	return nil, at(t.String(), where, "this is not JSON: %v", err)
}

func (r *jsonReader) value(t *trail, depth int) (*value, error) {
	v := &value{pos: r.next()}
	tok, err := r.token(t)
	if err != nil {
		return nil, err
	}
	if err := r.take(v.pos, t, depth); err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case nil:
		v.kind = null
	case string:
		v.kind, v.scalar = text, tok
	case json.Number:
		v.kind, v.scalar = number, tok.String()
	case bool:
		v.kind, v.scalar = boolean, "false"
		if tok {
			v.scalar = "true"
		}
	case json.Delim:
		if tok == '[' {
			v.kind = array
			return v, r.array(v, t, depth)
		}
		v.kind = object
		return v, r.object(v, t, depth)
	}
	return v, nil
}

func (r *jsonReader) array(v *value, t *trail, depth int) error {
	for r.dec.More() {
		it, err := r.value(t.item(len(v.items)), depth+1)
		if err != nil {
			return err
		}
		v.items = append(v.items, it)
	}
	_, err := r.token(t)
	return err
}

func (r *jsonReader) object(v *value, t *trail, depth int) error {
	keys := map[string]bool{}
	for r.dec.More() {
		where := r.next()
		tok, err := r.token(t)
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok {
			return at(t.String(), where, "a key is not a text")
		}
		if keys[key] {
			return at(t.member(key).String(), where, "the key is there twice")
		}
		keys[key] = true
		m, err := r.value(t.member(key), depth+1)
		if err != nil {
			return err
		}
		v.members = append(v.members, member{key, m})
	}
	_, err := r.token(t)
	return err
}
