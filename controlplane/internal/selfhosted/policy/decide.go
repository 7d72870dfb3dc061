package policy

import "strings"

// Document is a compiled policy document. It never changes and may be used by
// many goroutines.
type Document struct {
	statements []statement
}

type statement struct {
	deny       bool
	actions    []pattern // lower case
	resources  []pattern
	conditions []condition
}

// Request is one question: may this connection do Action on Resource?
type Request struct {
	Action   string // such as iot:Publish; letters compare without case, as in IAM
	Resource string // ARN; "*" and "?" in it are plain text
	Vars     *Vars  // nil: no variable resolves
}

// Decide tells whether the documents together allow r. A Deny of any of them
// wins; when nothing allows, the answer is no.
func Decide(docs []*Document, r Request) bool {
	action := strings.ToLower(r.Action)
	allowed := false
	for _, d := range docs {
		for i := range d.statements {
			s := &d.statements[i]
			if allowed && !s.deny {
				continue
			}
			if !s.matches(action, r.Resource, r.Vars) {
				continue
			}
			if s.deny {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

func (s *statement) matches(action, resource string, v *Vars) bool {
	return s.hasAction(action) && s.hasResource(resource, v) && s.conditionsHold(v)
}

func (s *statement) hasAction(action string) bool {
	for i := range s.actions {
		if s.actions[i].match(action, nil) {
			return true
		}
	}
	return false
}

func (s *statement) hasResource(resource string, v *Vars) bool {
	for i := range s.resources {
		if s.resources[i].match(resource, v) {
			return true
		}
	}
	return false
}

func (s *statement) conditionsHold(v *Vars) bool {
	for i := range s.conditions {
		if !s.conditions[i].holds(v) {
			return false
		}
	}
	return true
}
