package claims

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// resolver works out the functions of one document for one device.
type resolver struct {
	doc   *document
	given map[string]string
	// dry: nothing is known of the device; each function is checked for its form and
	// makes an empty text.
	dry   bool
	names map[string]string // values and the parameters that hold them
	left  int               // bytes that may still be made
}

// function tells whether the object is a call: {"Ref": …} or {"Fn::…": …} alone.
func function(m map[string]any) (name string, arg any, ok bool) {
	if len(m) != 1 {
		return "", nil, false
	}
	for name, arg = range m {
		ok = name == "Ref" || strings.HasPrefix(name, "Fn::")
	}
	return name, arg, ok
}

// text is the result of a function that makes a text.
func (r *resolver) text(path, name string, arg any) (string, error) {
	v, err := r.call(path, name, arg)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", fault.Field(path, "%s makes a list where a text is needed", name)
	}
	return s, nil
}

// list is the result of a function that makes a list; a text is a list of one.
func (r *resolver) list(path, name string, arg any) ([]string, error) {
	v, err := r.call(path, name, arg)
	if err != nil {
		return nil, err
	}
	return listOf(v), nil
}

// listOf is what a function made, a string or a []string, as a list.
func listOf(v any) []string {
	if s, one := v.(string); one {
		return []string{s}
	}
	list, _ := v.([]string)
	return list
}

// call works out a function: a string or a []string.
func (r *resolver) call(path, name string, arg any) (any, error) {
	var v any
	var err error
	switch name {
	case "Ref":
		v, err = r.ref(path, arg)
	case "Fn::Join":
		v, err = r.join(path, arg)
	case "Fn::Select":
		v, err = r.pick(path, arg)
	case "Fn::Split":
		v, err = r.split(path, arg)
	case "Fn::FindInMap":
		v, err = r.find(path, arg)
	case "Fn::Sub":
		v, err = r.sub(path, arg)
	default:
		err = fault.Field(path, "%.40s is not known; the functions are Ref, Fn::Join, Fn::Select, Fn::Split, Fn::FindInMap and Fn::Sub", name)
	}
	if err != nil {
		return nil, err
	}
	return v, r.spend(path, size(v))
}

// spend bounds what functions inside functions can grow to, in bytes.
func (r *resolver) spend(path string, n int) error {
	if r.left -= n; r.left < 0 {
		return fault.Field(path, "the functions of the template make more than %d bytes", maxMade)
	}
	return nil
}

func size(v any) int {
	if s, ok := v.(string); ok {
		return len(s)
	}
	n := 0
	for _, s := range listOf(v) {
		n += len(s) + 1
	}
	return n
}

func (r *resolver) ref(path string, arg any) (string, error) {
	name, ok := arg.(string)
	if !ok || name == "" {
		return "", fault.Field(path, "Ref must name a parameter")
	}
	return r.parameter(path, name)
}

func (r *resolver) parameter(path, name string) (string, error) {
	p, declared := r.doc.parameters[name]
	if !declared && !slices.Contains(builtIn(), name) {
		return "", fault.Field(path, "%.80q is not declared in Parameters", name)
	}
	v, ok := r.given[name]
	switch {
	case r.dry:
		return "", nil
	case ok && utf8.RuneCountInString(v) > maxParameter:
		return "", fault.Field("parameters."+name, "has more than %d characters", maxParameter)
	case ok:
		return v, nil
	case p.Default != nil:
		return *p.Default, nil
	}
	return "", fault.Field("parameters."+name, "has no value and no default, and %s refers to it", path)
}

// operands reads a list of n arguments.
func operands(path, name string, arg any, n int) ([]any, error) {
	l, ok := arg.([]any)
	if !ok || len(l) != n {
		return nil, fault.Field(path, "%s needs a list of %d", name, n)
	}
	return l, nil
}

// textOf is an operand that must be a text.
func (r *resolver) textOf(path string, v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case map[string]any:
		if name, arg, ok := function(v); ok {
			return r.text(path, name, arg)
		}
	}
	return "", fault.Field(path, "an operand must be text or a function")
}

// listOf is an operand that must be a list of texts.
func (r *resolver) listOf(path string, v any) ([]string, error) {
	switch v := v.(type) {
	case []any:
		out := make([]string, len(v))
		for i, x := range v {
			var err error
			if out[i], err = r.textOf(path, x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		if name, arg, ok := function(v); ok {
			return r.list(path, name, arg)
		}
	}
	return nil, fault.Field(path, "an operand must be a list or a function")
}

func (r *resolver) join(path string, arg any) (string, error) {
	l, err := operands(path, "Fn::Join", arg, 2)
	if err != nil {
		return "", err
	}
	by, ok := l[0].(string)
	if !ok {
		return "", fault.Field(path, "Fn::Join needs a text to put between")
	}
	list, err := r.listOf(path, l[1])
	if err != nil {
		return "", err
	}
	if err := r.spend(path, len(by)*len(list)); err != nil {
		return "", err
	}
	return strings.Join(list, by), nil
}

func (r *resolver) pick(path string, arg any) (string, error) {
	l, err := operands(path, "Fn::Select", arg, 2)
	if err != nil {
		return "", err
	}
	index := l[0]
	if n, ok := index.(float64); ok {
		index = strconv.FormatFloat(n, 'f', -1, 64)
	}
	at, err := r.textOf(path, index)
	if err != nil {
		return "", err
	}
	list, err := r.listOf(path, l[1])
	if err != nil || r.dry {
		return "", err
	}
	n, err := strconv.Atoi(at)
	if err != nil || n < 0 || n >= len(list) {
		return "", fault.Field(path, "Fn::Select of entry %.20q, the list has %d, the first is 0", at, len(list))
	}
	return list[n], nil
}

func (r *resolver) split(path string, arg any) ([]string, error) {
	l, err := operands(path, "Fn::Split", arg, 2)
	if err != nil {
		return nil, err
	}
	at, ok := l[0].(string)
	if !ok || at == "" {
		return nil, fault.Field(path, "Fn::Split needs a text to split at")
	}
	s, err := r.textOf(path, l[1])
	if err != nil {
		return nil, err
	}
	return strings.Split(s, at), nil
}

func (r *resolver) find(path string, arg any) (any, error) {
	l, err := operands(path, "Fn::FindInMap", arg, 3)
	if err != nil {
		return nil, err
	}
	var key [3]string
	for i, x := range l {
		if key[i], err = r.textOf(path, x); err != nil {
			return nil, err
		}
	}
	if r.dry {
		return "", nil
	}
	switch v := r.doc.mappings[key[0]][key[1]][key[2]].(type) {
	case string:
		return v, nil
	case []any:
		list, _ := texts(v)
		return list, nil
	}
	raw, _ := json.Marshal(key) //nolint:errchkjson // texts always encode
	return nil, fault.Field(path, "Fn::FindInMap finds nothing at %.200s in Mappings", raw)
}

// sub fills ${name} in a text; ${!name} stands for ${name} itself.
func (r *resolver) sub(path string, arg any) (string, error) {
	in, ok := arg.(string)
	var own map[string]any
	if l, list := arg.([]any); list && len(l) == 2 {
		in, ok = l[0].(string)
		if own, list = l[1].(map[string]any); !list {
			ok = false
		}
	}
	if !ok {
		return "", fault.Field(path, "Fn::Sub needs a text, or a text and an object of values")
	}
	var out strings.Builder
	for {
		before, rest, more := strings.Cut(in, "${")
		out.WriteString(before)
		if !more {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fault.Field(path, "Fn::Sub has a ${ without }")
		}
		in = after
		if kept, literal := strings.CutPrefix(name, "!"); literal {
			out.WriteString("${" + kept + "}")
			continue
		}
		v, err := r.variable(path, name, own)
		if err != nil {
			return "", err
		}
		if err := r.spend(path, len(v)); err != nil {
			return "", err
		}
		out.WriteString(v)
	}
}

func (r *resolver) variable(path, name string, own map[string]any) (string, error) {
	if v, ok := own[name]; ok {
		return r.textOf(path, v)
	}
	return r.parameter(path, name)
}
