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
	line int // of the offset in seen
	seen int64
	budget
}

func readJSON(src []byte) (*value, error) {
	r := &jsonReader{src: src, dec: json.NewDecoder(bytes.NewReader(src)), line: 1}
	r.dec.UseNumber()
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, at("", r.now(), "there is text after the end of the JSON object")
	}
	return v, nil
}

// now is the line that the decoder has reached.
func (r *jsonReader) now() int {
	off := min(r.dec.InputOffset(), int64(len(r.src)))
	if off > r.seen {
		r.line += bytes.Count(r.src[r.seen:off], []byte{'\n'})
		r.seen = off
	}
	return r.line
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if err == nil {
		return t, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, at("", r.now(), "the JSON text ends too early")
	}
	line := r.now()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		line = 1 + bytes.Count(r.src[:max(0, min(int(e.Offset), len(r.src)))], []byte{'\n'})
	}
	return nil, at("", line, "it is not JSON: %v", err)
}

func (r *jsonReader) value(depth int) (*value, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	v := &value{line: r.now()}
	if err := r.take(v.line, depth); err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case nil:
		v.kind = null
	case string:
		v.kind, v.scalar = text, t
	case json.Number:
		v.kind, v.scalar = number, t.String()
	case bool:
		v.kind, v.scalar = boolean, "false"
		if t {
			v.scalar = "true"
		}
	case json.Delim:
		if t == '[' {
			v.kind = array
			return v, r.array(v, depth)
		}
		v.kind = object
		return v, r.object(v, depth)
	}
	return v, nil
}

func (r *jsonReader) array(v *value, depth int) error {
	for r.dec.More() {
		it, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		v.items = append(v.items, it)
	}
	_, err := r.token()
	return err
}

func (r *jsonReader) object(v *value, depth int) error {
	keys := map[string]bool{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return at("", r.now(), "a key is not a text")
		}
		if keys[key] {
			return at("", r.now(), "the key %q is there twice", key)
		}
		keys[key] = true
		m, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		v.members = append(v.members, member{key, m})
	}
	_, err := r.token()
	return err
}
