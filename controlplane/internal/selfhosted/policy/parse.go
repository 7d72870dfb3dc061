package policy

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxCharacters is the largest document, white space not counted (iot-api §16).
const MaxCharacters = 2048

// maxBytes bounds what Parse looks at before it counts characters.
const maxBytes = 64 << 10

// Parse reads a policy document. Errors are of kind fault.Invalid and name the
// member: Statement[1].Effect. Member names are exact and may not repeat;
// Principal, NotAction and NotResource are refused, as AWS IoT refuses them.
func Parse(document []byte) (*Document, error) {
	if err := checkSize(document); err != nil {
		return nil, err
	}
	ms, err := members(document)
	if err != nil {
		return nil, at("policyDocument", err)
	}
	var version string
	var statements json.RawMessage
	for _, m := range ms {
		switch m.name {
		case "Version":
			version, err = text(m.value)
		case "Id":
			_, err = text(m.value)
		case "Statement":
			statements = m.value
		default:
			return nil, fault.Field(m.name, "is not a member of a policy document (Version, Id, Statement)")
		}
		if err != nil {
			return nil, at(m.name, err)
		}
	}
	if version != "2012-10-17" && version != "2008-10-17" {
		return nil, fault.Field("Version", "is %q; write \"2012-10-17\"", version)
	}
	if statements == nil {
		return nil, fault.Field("Statement", "is missing")
	}
	return parseStatements(statements, version == "2012-10-17")
}

func checkSize(document []byte) error {
	if len(document) > maxBytes {
		return fault.Field("policyDocument", "has %d bytes, at most %d are read", len(document), maxBytes)
	}
	if !utf8.Valid(document) {
		return fault.Field("policyDocument", "is not UTF-8")
	}
	n := 0
	for _, r := range string(document) {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	if n > MaxCharacters {
		return fault.Field("policyDocument", "has %d characters without white space, at most %d are allowed", n, MaxCharacters)
	}
	return nil
}

func parseStatements(raw json.RawMessage, vars bool) (*Document, error) {
	each := []json.RawMessage{raw}
	if raw[0] == '[' {
		each = nil
		if err := json.Unmarshal(raw, &each); err != nil {
			return nil, fault.Field("Statement", "is not a list of statements")
		}
	}
	if len(each) == 0 {
		return nil, fault.Field("Statement", "is empty")
	}
	d := &Document{statements: make([]statement, 0, len(each))}
	for i, one := range each {
		s, err := parseStatement(one, vars)
		if err != nil {
			path := "Statement"
			if raw[0] == '[' {
				path += "[" + strconv.Itoa(i) + "]"
			}
			return nil, at(path, err)
		}
		d.statements = append(d.statements, s)
	}
	return d, nil
}

func parseStatement(raw json.RawMessage, vars bool) (statement, error) {
	var s statement
	ms, err := members(raw)
	if err != nil {
		return s, err
	}
	seen := map[string]bool{}
	for _, m := range ms {
		seen[m.name] = true
		if err := s.parseMember(m, vars); err != nil {
			return s, at(m.name, err)
		}
	}
	for _, name := range []string{"Effect", "Action", "Resource"} {
		if !seen[name] {
			return s, fault.Field(name, "is missing")
		}
	}
	return s, nil
}

func (s *statement) parseMember(m member, vars bool) (err error) {
	switch m.name {
	case "Sid":
		_, err = text(m.value)
	case "Effect":
		var effect string
		if effect, err = text(m.value); err != nil {
			return err
		}
		if effect != "Allow" && effect != "Deny" {
			return wrong("is %q; write \"Allow\" or \"Deny\"", effect)
		}
		s.deny = effect == "Deny"
	case "Action":
		s.actions, err = parseActions(m.value)
	case "Resource":
		var arns []string
		if arns, err = texts(m.value); err != nil {
			return err
		}
		for _, r := range arns {
			s.resources = append(s.resources, compile(r, vars))
		}
	case "Condition":
		s.conditions, err = parseConditions(m.value, vars)
	default:
		return wrong("is not allowed in a statement of an IoT policy (Sid, Effect, Action, Resource, Condition)")
	}
	return err
}

func parseActions(raw json.RawMessage) ([]pattern, error) {
	actions, err := texts(raw)
	if err != nil {
		return nil, err
	}
	out := make([]pattern, 0, len(actions))
	for _, a := range actions {
		service, name, ok := strings.Cut(a, ":")
		if a != "*" && (!ok || service == "" || name == "") {
			return nil, wrong("%q is not an action; write service:Name, such as iot:Publish", a)
		}
		out = append(out, compile(strings.ToLower(a), false))
	}
	return out, nil
}

// member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// members reads a JSON object in order and refuses names that repeat: with two
// values for one name, two readers could take different ones.
func members(raw []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, wrong("is not a JSON object")
	}
	var out []member
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, wrong("is not valid JSON")
		}
		var m member
		if m.name = name; seen[name] {
			return nil, fault.Field(name, "is given twice")
		}
		seen[name] = true
		if err := dec.Decode(&m.value); err != nil {
			return nil, fault.Field(name, "is not valid JSON")
		}
		out = append(out, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, wrong("is not valid JSON")
	}
	if dec.More() {
		return nil, wrong("has text after the JSON object")
	}
	return out, nil
}

func text(raw json.RawMessage) (string, error) {
	if raw[0] != '"' {
		return "", wrong("is not a string")
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", wrong("is not a string")
	}
	return s, nil
}

// texts reads a string or a non-empty list of strings, none of them empty.
func texts(raw json.RawMessage) ([]string, error) {
	return list(raw, func(r json.RawMessage) (string, error) {
		s, err := text(r)
		if err == nil && s == "" {
			err = wrong("is empty")
		}
		return s, err
	})
}

// list reads one value or a non-empty list of values.
func list(raw json.RawMessage, read func(json.RawMessage) (string, error)) ([]string, error) {
	if raw[0] != '[' {
		s, err := read(raw)
		return []string{s}, err
	}
	var values []json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil || len(values) == 0 {
		return nil, wrong("is an empty list")
	}
	out := make([]string, 0, len(values))
	for i, r := range values {
		s, err := read(r)
		if err != nil {
			return nil, at("["+strconv.Itoa(i)+"]", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// wrong is an error about the value at hand; at says which one it is.
func wrong(format string, args ...any) error { return fault.Field("", format, args...) }

// at puts name in front of the path of err.
func at(name string, err error) error {
	if err != nil && fault.FieldOf(err) == "" {
		return fault.Field(name, "%s", fault.Message(err))
	}
	return fault.Under(name, err)
}
