package assetlibrarytest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// MediaType is the type that requests must accept and answers have.
const MediaType = "application/vnd.aws-cdf-v1.0+json"

// Device is a device of the Asset Library.
type Device struct {
	ID         string
	ThingARN   string // empty: no thing
	Type       string
	Groups     []string // paths of the groups it is a direct member of
	Attributes map[string]any
}

// Group is a group of the Asset Library.
type Group struct {
	Path       string
	Type       string
	Attributes map[string]any
}

// Server is an Asset Library. Its fields are set before the first request.
type Server struct {
	Devices []Device
	Groups  []Group
	// Strict answers 404 to a look-up of several devices of which one is unknown,
	// as the original may; else the unknown ones are left out.
	Strict bool
	// MaxCount is the largest page, whatever the request says; 0: 1,000.
	MaxCount int
	// Header must be in every request.
	Header http.Header

	mu       sync.Mutex
	requests []string
	fail     []int
}

// Start serves s on a loopback address until close is called.
func (s *Server) Start() (address string, stop func()) {
	h := httptest.NewServer(s)
	return h.URL, h.Close
}

// Fail answers the next requests with these statuses, one each.
func (s *Server) Fail(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = append(s.fail, statuses...)
}

// Requests returns paths and query strings as they came.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.RequestURI)
	status := 0
	if len(s.fail) > 0 {
		status, s.fail = s.fail[0], s.fail[1:]
	}
	s.mu.Unlock()
	if status != 0 {
		answer(w, status, map[string]string{"error": http.StatusText(status)})
		return
	}
	for name := range s.Header {
		if r.Header.Get(name) != s.Header.Get(name) {
			answer(w, http.StatusForbidden, map[string]string{"message": "Forbidden"})
			return
		}
	}
	if r.Header.Get("Accept") != MediaType {
		answer(w, http.StatusUnsupportedMediaType, nil)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	path := r.URL.EscapedPath()
	group, inGroup := strings.CutSuffix(path, "/members/devices")
	switch {
	case r.Method != http.MethodGet || err != nil:
		answer(w, http.StatusBadRequest, nil)
	case strings.HasSuffix(path, "/bulkdevices"):
		s.bulk(w, query)
	case strings.HasSuffix(path, "/search"):
		s.search(w, query)
	case inGroup && strings.Contains(group, "/groups/"):
		_, encoded, _ := strings.Cut(group, "/groups/")
		name, err := url.PathUnescape(encoded)
		if err != nil || strings.Contains(encoded, "/") {
			answer(w, http.StatusBadRequest, nil)
			return
		}
		s.members(w, name, query)
	default:
		answer(w, http.StatusNotFound, map[string]string{"message": "Missing Authentication Token"})
	}
}

func (s *Server) bulk(w http.ResponseWriter, query url.Values) {
	results := []any{}
	for _, id := range strings.Split(query.Get("deviceIds"), ",") {
		i := slices.IndexFunc(s.Devices, func(d Device) bool { return strings.EqualFold(d.ID, id) })
		if i < 0 && s.Strict {
			answer(w, http.StatusNotFound, map[string]string{"error": "Item not found"})
			return
		}
		if i >= 0 {
			results = append(results, deviceResource(s.Devices[i]))
		}
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
}

func (s *Server) members(w http.ResponseWriter, path string, query url.Values) {
	if !slices.ContainsFunc(s.Groups, func(g Group) bool { return strings.EqualFold(g.Path, path) }) {
		answer(w, http.StatusNotFound, map[string]string{"error": "Item not found"})
		return
	}
	var all []any
	for _, d := range s.Devices {
		if slices.ContainsFunc(d.Groups, func(g string) bool { return strings.EqualFold(g, path) }) {
			all = append(all, deviceResource(d))
		}
	}
	s.page(w, all, query)
}

// page answers with a part of all. Like the original it always says where the
// page began, also on a page after the last one.
func (s *Server) page(w http.ResponseWriter, all []any, query url.Values) {
	most := s.MaxCount
	if most == 0 {
		most = 1000
	}
	offset, err1 := atoi(query.Get("offset"), 0)
	count, err2 := atoi(query.Get("count"), most)
	if err1 != nil || err2 != nil || offset < 0 || count < 1 {
		answer(w, http.StatusBadRequest, map[string]string{"message": "offset and count must be numbers"})
		return
	}
	count = min(count, most)
	from := min(offset, len(all))
	results := append([]any{}, all[from:min(from+count, len(all))]...)
	answer(w, http.StatusOK, map[string]any{"results": results, "pagination": map[string]int{"offset": offset, "count": count}})
}

func atoi(s string, dflt int) (int, error) {
	if s == "" {
		return dflt, nil
	}
	return strconv.Atoi(s)
}

func deviceResource(d Device) map[string]any {
	m := map[string]any{"category": "device", "deviceId": strings.ToLower(d.ID), "templateId": d.Type, "attributes": attributes(d.Attributes)}
	if d.ThingARN != "" {
		m["awsIotThingArn"] = d.ThingARN
	}
	return m
}

func groupResource(g Group) map[string]any {
	return map[string]any{"category": "group", "groupPath": strings.ToLower(g.Path), "templateId": g.Type, "attributes": attributes(g.Attributes)}
}

func attributes(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", MediaType)
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // the client left
	}
}
