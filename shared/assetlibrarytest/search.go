package assetlibrarytest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// search finds devices and groups. Filters look at attributes, one hop of a
// traversal at the attributes of the groups that a device is in; every
// traversal counts as that.
func (s *Server) search(w http.ResponseWriter, query url.Values) {
	for name := range query {
		if !slices.Contains([]string{"type", "ntype", "ancestorPath", "includeAncestor", "offset", "count", "sort"}, name) && operators()[name] == nil {
			answer(w, http.StatusBadRequest, map[string]string{"message": "unknown parameter " + name})
			return
		}
	}
	var all []any
	for _, d := range s.Devices {
		ok, err := s.matches(query, d.Type, d.Groups, d.Attributes, "")
		if err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
			return
		}
		if ok {
			all = append(all, deviceResource(d))
		}
	}
	for _, g := range s.Groups {
		if ok, _ := s.matches(query, g.Type, nil, g.Attributes, g.Path); ok {
			all = append(all, groupResource(g))
		}
	}
	s.page(w, all, query)
}

func (s *Server) matches(query url.Values, kind string, groups []string, attributes map[string]any, own string) (bool, error) {
	if types := query["type"]; len(types) > 0 && !slices.Contains(types, kind) || slices.Contains(query["ntype"], kind) {
		return false, nil
	}
	if ancestor := query.Get("ancestorPath"); ancestor != "" {
		below := func(p string) bool { return strings.HasPrefix(strings.ToLower(p)+"/", strings.ToLower(ancestor)+"/") }
		switch {
		case own == "" && !slices.ContainsFunc(groups, below):
			return false, nil
		case own != "" && !(below(own) && (!strings.EqualFold(own, ancestor) || query.Get("includeAncestor") == "true")):
			return false, nil
		}
	}
	for op, holds := range operators() {
		for _, f := range query[op] {
			parts := strings.Split(f, ":")
			if len(parts)%2 != 0 {
				return false, fmt.Errorf("filter %q is not relation:direction:…:field:value", f)
			}
			field := parts[len(parts)-2]
			value, err := url.PathUnescape(parts[len(parts)-1]) // encoded twice: once more than the query string
			if err != nil {
				return false, fmt.Errorf("filter %q: %w", f, err)
			}
			if !slices.ContainsFunc(s.looked(len(parts) > 2, groups, attributes), func(a map[string]any) bool { return holds(a[field], value) }) {
				return false, nil
			}
		}
	}
	return true, nil
}

// looked returns the attributes that a filter is about.
func (s *Server) looked(traversal bool, groups []string, attributes map[string]any) []map[string]any {
	if !traversal {
		return []map[string]any{attributes}
	}
	var out []map[string]any
	for _, g := range s.Groups {
		if slices.Contains(groups, g.Path) {
			out = append(out, g.Attributes)
		}
	}
	return out
}

// operators are the kinds of filter: whether what a device has holds against
// what the filter wants.
func operators() map[string]func(have any, want string) bool {
	return map[string]func(have any, want string) bool{
		"eq":         func(have any, want string) bool { return have != nil && fmt.Sprint(have) == want },
		"neq":        func(have any, want string) bool { return have != nil && fmt.Sprint(have) != want },
		"lt":         func(have any, want string) bool { return have != nil && compare(have, want) < 0 },
		"lte":        func(have any, want string) bool { return have != nil && compare(have, want) <= 0 },
		"gt":         func(have any, want string) bool { return have != nil && compare(have, want) > 0 },
		"gte":        func(have any, want string) bool { return have != nil && compare(have, want) >= 0 },
		"startsWith": func(have any, want string) bool { return have != nil && strings.HasPrefix(fmt.Sprint(have), want) },
		"endsWith":   func(have any, want string) bool { return have != nil && strings.HasSuffix(fmt.Sprint(have), want) },
		"contains":   func(have any, want string) bool { return have != nil && strings.Contains(fmt.Sprint(have), want) },
		"exist":      func(have any, want string) bool { return have != nil && fmt.Sprint(have) == want },
		"nexist":     func(have any, want string) bool { return have == nil || fmt.Sprint(have) != want },
	}
}

func compare(have any, want string) int {
	a, err1 := strconv.ParseFloat(fmt.Sprint(have), 64)
	b, err2 := strconv.ParseFloat(want, 64)
	if err1 != nil || err2 != nil {
		return strings.Compare(fmt.Sprint(have), want)
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
