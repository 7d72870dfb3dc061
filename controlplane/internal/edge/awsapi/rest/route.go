package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// routes is a tree of path segments. Paths are matched as they were sent, each
// segment by itself: names hold colons and escaped slashes, and a router that
// cleans or decodes the path first would see other segments.
type routes struct {
	words map[string]*routes
	label *routes // any one segment
	ops   map[string]*operation
	rest  map[string]*operation // by method: takes all segments that are left
}

func newRoutes() *routes {
	return &routes{words: map[string]*routes{}, ops: map[string]*operation{}, rest: map[string]*operation{}}
}

// add enters an operation. Two with the same method and path are an error.
func (r *routes) add(o *operation) error {
	at := r
	segments := strings.Split(strings.TrimPrefix(o.Path, "/"), "/")
	for i, s := range segments {
		name, label := strings.CutPrefix(s, "{")
		name, closed := strings.CutSuffix(name, "}")
		switch {
		case !label:
			if at.words[s] == nil {
				at.words[s] = newRoutes()
			}
			at = at.words[s]
			continue
		case !closed || name == "" || name == "+":
			return fmt.Errorf("path %s: label %s is malformed", o.Path, s)
		}
		name, greedy := strings.CutSuffix(name, "+")
		o.labels = append(o.labels, name)
		if greedy {
			if i != len(segments)-1 {
				return fmt.Errorf("path %s: %s is not the last label", o.Path, s)
			}
			return enter(at.rest, o)
		}
		if at.label == nil {
			at.label = newRoutes()
		}
		at = at.label
	}
	return enter(at.ops, o)
}

func enter(at map[string]*operation, o *operation) error {
	if before := at[o.Method]; before != nil {
		return fmt.Errorf("%s and %s are both %s %s", before.Name, o.Name, o.Method, o.Path)
	}
	at[o.Method] = o
	return nil
}

// find returns the operation of a request and the values of its labels. A word
// of a path goes before a label.
func (r *routes) find(method, rawPath string) (*operation, []string, error) {
	path, ok := strings.CutPrefix(rawPath, "/")
	if !ok {
		return nil, nil, errNoOperation
	}
	o, raw := r.walk(method, strings.Split(path, "/"), nil)
	if o == nil {
		return nil, nil, errNoOperation
	}
	values := make([]string, len(raw))
	for i, v := range raw {
		var err error
		if values[i], err = url.PathUnescape(v); err != nil {
			return nil, nil, errNoOperation
		}
	}
	return o, values, nil
}

func (r *routes) walk(method string, left, labels []string) (*operation, []string) {
	if len(left) == 0 {
		return r.ops[method], labels
	}
	if next := r.words[left[0]]; next != nil {
		if o, l := next.walk(method, left[1:], labels); o != nil {
			return o, l
		}
	}
	if left[0] != "" && r.label != nil {
		if o, l := r.label.walk(method, left[1:], append(labels[:len(labels):len(labels)], left[0])); o != nil {
			return o, l
		}
	}
	if o := r.rest[method]; o != nil && left[0] != "" {
		return o, append(labels[:len(labels):len(labels)], strings.Join(left, "/"))
	}
	return nil, nil
}

// Serves reports whether an operation has the request's method and path.
func (s *Service) Serves(r *http.Request) bool {
	_, _, err := s.routes.find(r.Method, r.URL.EscapedPath())
	return err == nil
}

var errNoOperation = errors.New("no operation has this method and path")
