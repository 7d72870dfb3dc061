package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// A feature is one feature file of the original services' own integration tests,
// run against a ggfleet by a client as they had it: plain HTTP, the CDF media type
// on both headers of every request, answers looked at by JSON path and compared as
// text (spec cdf-services §9).
type feature struct {
	t     *testing.T // of the whole feature
	world *world.World
	http  *http.Client
}

// scenario is one of a feature's, by its number in the specification.
type scenario struct {
	name string
	run  func(*testing.T)
}

func newFeature(t *testing.T, o world.Options) feature {
	t.Helper()
	f := feature{t: t, world: world.Start(t, o), http: &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{}}}
	t.Cleanup(f.http.CloseIdleConnections)
	return f
}

// play runs the scenarios in order. Each builds on those before it; one that fails
// does not keep the others from showing what they find.
func (f feature) play(scenarios ...scenario) {
	for _, s := range scenarios {
		f.t.Run(s.name, s.run)
	}
}

// soon asks until check finds nothing wrong. The pauses that the original makes
// instead, of 3 to 360 s, are no promise of anybody: a machine may be slow.
func soon(t *testing.T, check func(c *assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, check, 10*time.Minute, 50*time.Millisecond)
}

// reply is an answer, read whole.
type reply struct {
	t      require.TestingT
	what   string
	Status int
	Header http.Header
	Body   []byte
}

// send sends a request; a body becomes JSON.
func (f feature) send(t require.TestingT, method, path string, body any) reply {
	var content []byte
	if body != nil {
		var err error
		content, err = json.Marshal(body)
		require.NoError(t, err)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.world.API+path, bytes.NewReader(content))
	require.NoError(t, err)
	req.Header.Set("Accept", mediaType)
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Authorization", "Bearer "+f.world.Token)
	res, err := f.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	require.NoError(t, err)
	return reply{t: t, what: method + " " + path, Status: res.StatusCode, Header: res.Header, Body: b}
}

func (f feature) get(t require.TestingT, path string) reply {
	return f.send(t, http.MethodGet, path, nil)
}

// missing requires that nothing is at path.
func (f feature) missing(t require.TestingT, path string) {
	f.get(t, path).is(http.StatusNotFound)
}

// is requires the status.
func (r reply) is(status int) reply {
	require.Equal(r.t, status, r.Status, "%s: %s", r.what, r.Body)
	return r
}

// like is a regular expression for a text in an answer.
type like string

const uuidText like = `^[0-9a-f]{8}-[0-9a-f]{4}-[0-5][0-9a-f]{3}-[089ab][0-9a-f]{3}-[0-9a-f]{12}$`

// has compares texts at paths; a path is names and indexes with dots between
// them, and # for the length of a list.
func (r reply) has(want map[string]any) reply {
	var v any
	require.NoError(r.t, json.Unmarshal(r.Body, &v), "%s: %s", r.what, r.Body)
	for path, w := range want {
		got, ok := at(v, path)
		if !assert.True(r.t, ok, "%s: nothing at %s: %s", r.what, path, r.Body) {
			continue
		}
		if pattern, ok := w.(like); ok {
			assert.Regexp(r.t, string(pattern), got, "%s: %s", r.what, path)
		} else {
			assert.Equal(r.t, fmt.Sprint(w), got, "%s: %s: %s", r.what, path, r.Body)
		}
	}
	return r
}

// into decodes the answer.
func (r reply) into(v any) {
	require.NoError(r.t, json.Unmarshal(r.Body, v), "%s: %s", r.what, r.Body)
}

// text returns what is at path.
func (r reply) text(path string) string {
	var v any
	require.NoError(r.t, json.Unmarshal(r.Body, &v), "%s: %s", r.what, r.Body)
	got, ok := at(v, path)
	require.True(r.t, ok, "%s: nothing at %s: %s", r.what, path, r.Body)
	return got
}

// lacks requires that there is nothing at path.
func (r reply) lacks(path string) reply {
	var v any
	require.NoError(r.t, json.Unmarshal(r.Body, &v), "%s: %s", r.what, r.Body)
	_, ok := at(v, path)
	assert.False(r.t, ok, "%s: something is at %s: %s", r.what, path, r.Body)
	return r
}

// at finds the text at a path.
func at(v any, path string) (string, bool) {
	for _, part := range strings.Split(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[part]; !ok {
				return "", false
			}
		case []any:
			if part == "#" {
				return strconv.Itoa(len(in)), true
			}
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(in) {
				return "", false
			}
			v = in[i]
		default:
			return "", false
		}
	}
	if s, ok := v.(string); ok {
		return s, true
	}
	b, err := json.Marshal(v)
	return string(b), err == nil
}

// task follows an accepted task until it has ended, and returns it.
func (f feature) task(t *testing.T, accepted reply) reply {
	t.Helper()
	accepted.is(http.StatusAccepted)
	id := accepted.Header.Get("x-taskid")
	path := accepted.Header.Get("Location")
	require.True(t, strings.HasSuffix(path, "/"+id) && id != "", "%s: x-taskid %q, Location %q", accepted.what, id, path)
	var task reply
	soon(t, func(c *assert.CollectT) {
		task = f.get(c, path).is(http.StatusOK).has(map[string]any{"taskStatus": like("^(Success|Failure)$")})
	})
	task.t = t
	return task.has(map[string]any{"id": like(taskID), "createdAt": like(date), "updatedAt": like(date)})
}

// item is the one of a list in an answer whose member by is name.
func (r reply) item(list, by, name string) string {
	n, err := strconv.Atoi(r.text(list + ".#"))
	require.NoError(r.t, err)
	for i := range n {
		path := fmt.Sprintf("%s.%d", list, i)
		if r.text(path+"."+by) == name {
			return path + "."
		}
	}
	require.FailNow(r.t, "no such item", "%s: no %s is %s: %s", r.what, by, name, r.Body)
	return ""
}
