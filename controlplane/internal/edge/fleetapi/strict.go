package fleetapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxDepth is how deep arrays and objects of a body may nest. The deepest body
// of the API has nine levels, pass-through values included.
const maxDepth = 64

// decodeStrict reads exactly one JSON value. It refuses what encoding/json lets
// pass: a member that stands twice (which of them counts would differ between
// the check and the use), a second value, and nesting without end. Errors name
// the member.
func decodeStrict(data []byte) (any, error) {
	d := &strictDecoder{json: json.NewDecoder(bytes.NewReader(data))}
	d.json.UseNumber()
	v, err := d.value("", 0)
	if err != nil {
		return nil, d.explain(err)
	}
	if _, err := d.json.Token(); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "the body goes on after its JSON value, at byte %d", d.json.InputOffset())
	}
	return v, nil
}

type strictDecoder struct{ json *json.Decoder }

// explain says where malformed JSON is malformed.
func (d *strictDecoder) explain(err error) error {
	if fault.KindOf(err) != "" {
		return err
	}
	at := d.json.InputOffset()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fault.New(fault.Invalid, "the body is not JSON: %s, at byte %d", e.Error(), max(e.Offset, at))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Invalid, "the body is not JSON: it ends too early, at byte %d", at)
	}
	return fault.New(fault.Invalid, "the body is not JSON: %s", err.Error())
}

func (d *strictDecoder) value(path string, depth int) (any, error) {
	t, err := d.json.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == maxDepth {
			return nil, fault.Field(clip(path), "is nested deeper than %d levels", maxDepth)
		}
		if t == '[' {
			return d.array(path, depth)
		}
		return d.object(path, depth)
	case json.Number:
		f, err := t.Float64()
		if err != nil {
			return nil, fault.Field(clip(path), "%s is not a number in range", clip(t.String()))
		}
		return f, nil
	}
	return t, nil
}

func (d *strictDecoder) array(path string, depth int) (any, error) {
	a := []any{}
	for d.json.More() {
		v, err := d.value(path+"["+strconv.Itoa(len(a))+"]", depth+1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := d.json.Token()
	return a, err
}

func (d *strictDecoder) object(path string, depth int) (any, error) {
	o := map[string]any{}
	for d.json.More() {
		t, err := d.json.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string) // the decoder lets nothing else stand here
		at := member(path, key)
		if _, twice := o[key]; twice {
			return nil, fault.Field(clip(at), "stands twice in the same object")
		}
		if o[key], err = d.value(at, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.json.Token()
	return o, err
}

func member(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// decodeError gives an error of the generated binding, which runs after our own
// checks, a kind and a field.
func decodeError(err error) error {
	if fault.KindOf(err) != "" {
		return err
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fault.Field(e.Field, "%s does not fit here, want %s", clip(e.Value), e.Type)
	}
	return fault.New(fault.Invalid, "%s", clip(err.Error()))
}
