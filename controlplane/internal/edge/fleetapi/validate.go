package fleetapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// validate checks the parameters of path, query and header against the API
// document. Bodies are checked as they are read.
func (s *server) validate(c *gin.Context) {
	op := s.operation(c)
	if op == nil {
		return
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil { // what cannot be read would be left out, and more be answered than was asked for
		s.fail(c, fault.New(fault.Invalid, "the query can not be read: write reserved characters, ; among them, as %%XX"))
		return
	}
	in := &openapi3filter.RequestValidationInput{
		Request:     c.Request,
		PathParams:  make(map[string]string, len(c.Params)),
		QueryParams: query,
	}
	for _, p := range c.Params {
		in.PathParams[p.Key] = p.Value
	}
	if err := checkQuery(in.QueryParams, op.parameters); err != nil {
		s.fail(c, err)
		return
	}
	for _, p := range op.parameters {
		if err := openapi3filter.ValidateParameter(c.Request.Context(), in, p.Value); err != nil {
			s.fail(c, parameterError(p.Value, in.QueryParams.Get(p.Value.Name), err))
			return
		}
	}
}

// checkQuery refuses parameters that the operation does not have, and those that
// stand twice: which of them counts would be a guess.
func checkQuery(query url.Values, known openapi3.Parameters) error {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch p := known.GetByInAndName(openapi3.ParameterInQuery, name); {
		case p == nil:
			var names []string
			for _, k := range known {
				if k.Value.In == openapi3.ParameterInQuery {
					names = append(names, k.Value.Name)
				}
			}
			if len(names) == 0 {
				return fault.Field(clip(name), "is unknown; this call has no query parameters")
			}
			return fault.Field(clip(name), "is unknown; known here: %s", strings.Join(names, ", "))
		case len(query[name]) > 1:
			return fault.Field(name, "stands more than once")
		}
	}
	return nil
}

func parameterError(p *openapi3.Parameter, sent string, err error) error {
	if e, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		return fault.Field(p.Name, "%s", explain(e))
	}
	if errors.Is(err, openapi3filter.ErrInvalidEmptyValue) {
		return fault.Field(p.Name, "must not be empty")
	}
	if t := p.Schema.Value.Type; t != nil && t.Is("integer") {
		return fault.Field(p.Name, "want a whole number, got %q", clip(sent))
	}
	return fault.Field(p.Name, "can not be read")
}

// validateJSON checks a decoded body; the error names the member by its path.
func validateJSON(schema *openapi3.Schema, value any) error {
	err := schema.VisitJSON(value, openapi3.VisitAsRequest())
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*openapi3.SchemaError](err)
	if !ok {
		return fault.New(fault.Invalid, "the body does not fit the API document")
	}
	pointer := e.JSONPointer()
	if e.SchemaField == "properties" { // the validator names only the object
		pointer = append(pointer, unknown(e))
	}
	path := fieldPath(value, pointer)
	if path == "" {
		return fault.New(fault.Invalid, "the body: %s", explain(e))
	}
	return fault.Field(path, "%s", explain(e))
}

// unknown returns the first member, by name, that e's schema does not have.
func unknown(e *openapi3.SchemaError) string {
	object, _ := e.Value.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if e.Schema.Properties[name] == nil {
			return name
		}
	}
	return ""
}

// fieldPath writes a JSON pointer as a caller would: cores[3].name. The value
// tells an index from a member that is named like a number.
func fieldPath(value any, pointer []string) string {
	path := ""
	for _, step := range pointer {
		switch v := value.(type) {
		case []any:
			path += "[" + step + "]"
			value = nil
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(v) {
				value = v[i]
			}
		case map[string]any:
			path = member(path, clip(step))
			value = v[step]
		default:
			path = member(path, clip(step))
		}
	}
	return path
}

// explain says what is wrong with a value in the words of the API's users.
func explain(e *openapi3.SchemaError) string {
	sc := e.Schema
	switch e.SchemaField {
	case "required":
		return "is missing"
	case "properties":
		known := slices.Sorted(maps.Keys(sc.Properties))
		known = slices.DeleteFunc(known, func(n string) bool { return sc.Properties[n].Value.Type == nil && sc.Properties[n].Value.OneOf == nil })
		return "is unknown; known here: " + strings.Join(known, ", ")
	case "type":
		return "want " + article(sc.Type) + ", got " + show(e.Value)
	case "nullable":
		return "must not be null"
	case "enum":
		return "want one of " + list(sc.Enum) + ", got " + show(e.Value)
	case "pattern":
		return show(e.Value) + " does not match " + sc.Pattern
	case "oneOf":
		return "want " + sc.Description + ", got " + show(e.Value)
	case "minItems":
		return fmt.Sprintf("needs at least %d %s", sc.MinItems, plural(sc.MinItems, "element", "elements"))
	case "maxItems":
		return fmt.Sprintf("has more than %d elements", *sc.MaxItems)
	case "minProperties":
		return fmt.Sprintf("needs at least %d %s", sc.MinProps, plural(sc.MinProps, "member", "members"))
	case "minLength":
		return fmt.Sprintf("needs at least %d %s", sc.MinLength, plural(sc.MinLength, "character", "characters"))
	case "maxLength":
		return fmt.Sprintf("has more than %d characters", *sc.MaxLength)
	case "minimum":
		return fmt.Sprintf("want %g or more, got %s", *sc.Min, show(e.Value))
	case "maximum":
		return fmt.Sprintf("want %g or less, got %s", *sc.Max, show(e.Value))
	}
	return clip(e.Reason)
}

func article(t *openapi3.Types) string {
	if t == nil || len(*t) == 0 {
		return "another type"
	}
	switch (*t)[0] {
	case openapi3.TypeString:
		return "a text"
	case openapi3.TypeInteger:
		return "a whole number"
	case openapi3.TypeNumber:
		return "a number"
	case openapi3.TypeBoolean:
		return "true or false"
	case openapi3.TypeArray:
		return "an array"
	}
	return "an object"
}

// show writes a value that a caller sent, shortened; of arrays and objects only
// what they are.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	case string:
		return strconv.Quote(clip(v))
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case json.Number:
		return clip(v.String())
	}
	return clip(fmt.Sprint(v))
}

func list(values []any) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = fmt.Sprint(v)
	}
	return strings.Join(s, ", ")
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
