package assetlibrary_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/assetlibrary"
	"github.com/ggfleet/ggfleet/shared/assetlibrarytest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func arn(thing string) string { return "arn:aws:iot:eu-west-1:123456789012:thing/" + thing }

func start(t *testing.T, s *assetlibrarytest.Server) *assetlibrary.Client {
	t.Helper()
	address, stop := s.Start()
	t.Cleanup(stop)
	return client(t, address+"/assets")
}

func client(t *testing.T, address string) *assetlibrary.Client {
	t.Helper()
	c, err := assetlibrary.New(assetlibrary.Config{URL: address, Region: "eu-west-1", Headers: []string{"X-Api-Key=a=b"}})
	require.NoError(t, err)
	return c
}

// plant is a library of 250 devices in one group and some that are special.
func plant() *assetlibrarytest.Server {
	s := &assetlibrarytest.Server{
		Header: http.Header{"X-Api-Key": {"a=b"}},
		Groups: []assetlibrarytest.Group{
			{Path: "/plant a/hall+1", Type: "hall", Attributes: map[string]any{"floor": 2}},
			{Path: "/plant a/hall+1/cell", Type: "cell"},
			{Path: "/empty", Type: "hall"},
		},
	}
	for i := range 250 {
		s.Devices = append(s.Devices, assetlibrarytest.Device{
			ID: fmt.Sprintf("dev-%03d", i), ThingARN: arn(fmt.Sprintf("gw-%03d", i)), Type: "gateway", Groups: []string{"/plant a/hall+1"},
			Attributes: map[string]any{"n": i, "label": fmt.Sprintf("a:b c+d/%d%%", i)},
		})
	}
	s.Devices = append(s.Devices,
		assetlibrarytest.Device{ID: "bare", Type: "sensor", Groups: []string{"/plant a/hall+1/cell"}},
		assetlibrarytest.Device{ID: "abroad", Type: "sensor", ThingARN: "arn:aws:iot:us-west-2:123456789012:thing/far", Groups: []string{"/plant a/hall+1/cell"}},
		assetlibrarytest.Device{ID: "colon", Type: "sensor", ThingARN: arn("cell:7"), Groups: []string{"/plant a/hall+1/cell"}},
		assetlibrarytest.Device{ID: "twin", Type: "sensor", ThingARN: arn("cell:7"), Groups: []string{"/plant a/hall+1/cell"}},
	)
	return s
}

func TestDevices(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("W-130: unknown devices are named and fail nothing, strict %v", strict), func(t *testing.T) {
			s := plant()
			s.Strict = strict
			things, skipped, err := start(t, s).Devices(t.Context(), []string{"DEV-001", "nobody", "dev-002", "abroad", "bare", "a,b", "dev-001", "colon", "twin", ""})
			require.NoError(t, err)
			assert.Equal(t, []string{"gw-001", "gw-002", "cell:7"}, things)
			assert.ElementsMatch(t, []string{
				"device nobody is unknown", "device abroad has its thing in region us-west-2", "device bare has no thing",
				`device "a,b" cannot be asked for: ids are not empty and have no comma`, `device "" cannot be asked for: ids are not empty and have no comma`,
			}, skipped)
		})
	}
}

func TestW131EveryParameterReachesTheServer(t *testing.T) {
	s := plant()
	c := start(t, s)
	_, _, err := c.Devices(t.Context(), []string{"dev-001", "dev 2/ü"})
	require.NoError(t, err)
	_, _, err = c.Group(t.Context(), "/plant a/hall+1/cell")
	require.NoError(t, err)
	_, _, err = c.Query(t.Context(), json.RawMessage(`{"types": ["a b", "c"], "ntypes": ["d"], "ancestorPath": "/p", "includeAncestor": true,
		"eq": [{"field": "n", "value": 7}, {"traversals": [{"relation": "in_hall", "direction": "out"}], "field": "floor", "value": "a:b c+d"}], "sort": "n:asc"}`))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"/assets/bulkdevices?deviceIds=dev-001%2Cdev%202%2F%C3%BC&expandComponents=false&attributes=awsIotThingArn&includeGroups=",
		"/assets/groups/%2Fplant%20a%2Fhall%2B1%2Fcell/members/devices?offset=0&count=100",
		"/assets/groups/%2Fplant%20a%2Fhall%2B1%2Fcell/members/devices?offset=100&count=100",
		"/assets/search?type=a%20b&type=c&ntype=d&ancestorPath=%2Fp&includeAncestor=true&eq=n%3A7&eq=in_hall%3Aout%3Afloor%3Aa%253Ab%2520c%252Bd&sort=n%3Aasc&offset=0&count=100",
	}, s.Requests())
}

func TestManyDevicesAreAskedForInParts(t *testing.T) {
	s := plant()
	var ids, want []string
	for i := range 250 {
		ids, want = append(ids, fmt.Sprintf("dev-%03d", i)), append(want, fmt.Sprintf("gw-%03d", i))
	}
	things, skipped, err := start(t, s).Devices(t.Context(), ids)
	require.NoError(t, err)
	assert.Equal(t, want, things)
	assert.Empty(t, skipped)
	assert.Len(t, s.Requests(), 3)

	long := make([]string, 20)
	for i := range long {
		long[i] = strings.Repeat("é", 200) + fmt.Sprint(i)
	}
	_, skipped, err = start(t, s).Devices(t.Context(), long)
	require.NoError(t, err)
	assert.Len(t, skipped, 20)
	for _, r := range s.Requests() {
		assert.Less(t, len(r), 8000)
	}
}

func TestGroup(t *testing.T) {
	for name, most := range map[string]int{"pages as asked for": 0, "a server with smaller pages": 30} {
		t.Run(name, func(t *testing.T) {
			s := plant()
			s.MaxCount = most
			things, skipped, err := start(t, s).Group(t.Context(), "/plant a/hall+1")
			require.NoError(t, err)
			assert.Len(t, things, 250)
			assert.Equal(t, "gw-249", things[249])
			assert.Empty(t, skipped, "devices of groups below are not followed")
		})
	}
	c := start(t, plant())
	things, skipped, err := c.Group(t.Context(), "/plant a/hall+1/cell")
	require.NoError(t, err)
	assert.Equal(t, []string{"cell:7"}, things)
	assert.Len(t, skipped, 2)
	things, _, err = c.Group(t.Context(), "/empty")
	require.NoError(t, err)
	assert.Empty(t, things)
	for _, path := range []string{"/nowhere", "", "..", "plant"} {
		_, _, err = c.Group(t.Context(), path)
		require.ErrorIs(t, err, fault.NotFound, path)
		assert.ErrorContains(t, err, path)
	}
}

func TestQuery(t *testing.T) {
	tests := map[string]struct {
		query   string
		things  int
		skipped int
	}{
		"devices of a type":                     {`{"types": ["gateway"]}`, 250, 0},
		"a value with every sign of the format": {`{"eq": [{"field": "label", "value": "a:b c+d/7%"}]}`, 1, 0},
		"a number":                              {`{"types": ["gateway"], "lt": [{"field": "n", "value": 10}]}`, 10, 0},
		"two filters of one kind":               {`{"contains": [{"field": "label", "value": "/1"}, {"field": "label", "value": "1%"}]}`, 12, 0},
		"groups stand for their members":        {`{"types": ["hall", "cell"]}`, 251, 2},
		"a traversal":                           {`{"types": ["gateway"], "eq": [{"traversals": [{"relation": "located", "direction": "out"}], "field": "floor", "value": 2}]}`, 250, 0},
		"below a group, without the gateways":   {`{"ancestorPath": "/plant a/hall+1", "ntypes": ["gateway", "cell"], "summarize": false}`, 1, 2},
		"nothing found":                         {`{"types": ["x"]}`, 0, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := start(t, plant())
			require.NoError(t, c.CheckQuery(json.RawMessage(tc.query)))
			things, skipped, err := c.Query(t.Context(), json.RawMessage(tc.query))
			require.NoError(t, err)
			assert.Len(t, things, tc.things)
			assert.Len(t, skipped, tc.skipped)
		})
	}
}

func TestQueryThatCanNeverBeCarriedOut(t *testing.T) {
	tests := map[string]struct{ query, field string }{
		"a list":                       {`[]`, ""},
		"null":                         {`null`, ""},
		"empty":                        {`{}`, ""},
		"only a wish that is off":      {`{"summarize": false, "sort": "x"}`, ""},
		"an unknown member":            {`{"types": ["x"], "like": []}`, "like"},
		"types are no list":            {`{"types": "x"}`, "types"},
		"a type is empty":              {`{"types": ["x", ""]}`, "types[1]"},
		"the path is a number":         {`{"ancestorPath": 1}`, "ancestorPath"},
		"counting instead of naming":   {`{"types": ["x"], "summarize": true}`, "summarize"},
		"facets instead of devices":    {`{"types": ["x"], "facetField": {"field": "a"}}`, "facetField"},
		"filters are an object":        {`{"eq": {"field": "a", "value": 1}}`, "eq"},
		"a filter is text":             {`{"eq": ["a:1"]}`, "eq[0].field"},
		"a filter without field":       {`{"eq": [{"value": 1}]}`, "eq[0].field"},
		"a colon in the field":         {`{"eq": [{"field": "a:b", "value": 1}]}`, "eq[0].field"},
		"a filter without value":       {`{"eq": [{"field": "a"}]}`, "eq[0].value"},
		"a value that is an object":    {`{"gt": [{"field": "a", "value": 1}, {"field": "a", "value": {}}]}`, "gt[1].value"},
		"a value that is null":         {`{"eq": [{"field": "a", "value": null}]}`, "eq[0].value"},
		"an unknown member, a filter":  {`{"eq": [{"field": "a", "value": 1, "or": 2}]}`, "eq[0].or"},
		"a direction that is none":     {`{"eq": [{"field": "a", "value": 1, "traversals": [{"relation": "r", "direction": "up"}]}]}`, "eq[0].traversals[0].direction"},
		"a traversal without relation": {`{"eq": [{"field": "a", "value": 1, "traversals": [{"direction": "in"}]}]}`, "eq[0].traversals[0].relation"},
		"an unknown member, traversal": {`{"eq": [{"field": "a", "value": 1, "traversals": [{"x": "in"}]}]}`, "eq[0].traversals[0]"},
		"too many filters":             {`{"eq": [` + strings.Repeat(`{"field": "a", "value": 1},`, 100) + `{"field": "a", "value": 1}]}`, ""},
		"too long for an address":      {`{"types": ["` + strings.Repeat("x", 9000) + `"]}`, ""},
	}
	c := client(t, "http://127.0.0.1:1")
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := c.CheckQuery(json.RawMessage(tc.query))
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err))
		})
	}
}

func TestErrorsSayWhetherToTryAgain(t *testing.T) {
	tests := map[int]fault.Kind{
		400: fault.Invalid, 401: fault.Denied, 403: fault.Denied, 404: fault.NotFound, 418: fault.Unsupported, 429: fault.Exhausted, 500: fault.Unavailable, 503: fault.Unavailable,
	}
	for status, kind := range tests {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := plant()
			c := start(t, s)
			s.Fail(status)
			_, _, err := c.Query(t.Context(), json.RawMessage(`{"types": ["gateway"]}`))
			require.ErrorIs(t, err, kind)
			assert.Contains(t, fault.Message(err), fmt.Sprintf("status %d: %s", status, http.StatusText(status)))
			things, _, err := c.Query(t.Context(), json.RawMessage(`{"types": ["gateway"]}`))
			require.NoError(t, err)
			assert.Len(t, things, 250)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		_, _, err := client(t, "http://127.0.0.1:1").Group(t.Context(), "/a")
		require.ErrorIs(t, err, fault.Unavailable)
	})
	t.Run("a group of several cannot be read", func(t *testing.T) {
		s := plant()
		c := start(t, s)
		s.Fail(0, 0, 503)
		_, _, err := c.Query(t.Context(), json.RawMessage(`{"types": ["hall", "cell"]}`))
		require.ErrorIs(t, err, fault.Unavailable)
	})
	t.Run("a group went away since it was found", func(t *testing.T) {
		s := plant()
		c := start(t, s)
		s.Fail(0, 0, 404)
		_, skipped, err := c.Query(t.Context(), json.RawMessage(`{"types": ["hall", "cell"]}`))
		require.NoError(t, err)
		assert.Contains(t, strings.Join(skipped, "\n"), "is unknown to the Asset Library")
	})
}

func serve(t *testing.T, h http.HandlerFunc) *assetlibrary.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return client(t, s.URL)
}

func TestAnswersOfAServerThatDoesNotKeepTheFormat(t *testing.T) {
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	t.Run("W-130: an empty page is the last one, whatever it says", func(t *testing.T) {
		things, _, err := serve(t, says(`{"results": [], "pagination": {"offset": 0, "count": 100}}`)).Group(t.Context(), "/a")
		require.NoError(t, err)
		assert.Empty(t, things)
	})
	t.Run("W-130: the same page again and again is an error", func(t *testing.T) {
		_, _, err := serve(t, says(`{"results": [{"deviceId": "d", "awsIotThingArn": "`+arn("x")+`"}], "pagination": {"offset": "0", "count": "1"}}`)).Group(t.Context(), "/a")
		require.ErrorIs(t, err, fault.Unavailable)
		assert.ErrorContains(t, err, "again and again")
	})
	t.Run("endless new pages end", func(t *testing.T) {
		_, _, err := serve(t, func(w http.ResponseWriter, r *http.Request) {
			var b strings.Builder
			for i := range 20000 {
				fmt.Fprintf(&b, `,{"deviceId": "%s-%d"}`, r.URL.Query().Get("offset"), i)
			}
			_, _ = fmt.Fprintf(w, `{"results": [%s], "pagination": {}}`, b.String()[1:])
		}).Group(t.Context(), "/a")
		require.ErrorIs(t, err, fault.TooLarge)
	})
	t.Run("no JSON", func(t *testing.T) {
		_, _, err := serve(t, says(`<html>`)).Devices(t.Context(), []string{"a"})
		require.ErrorIs(t, err, fault.Unavailable)
	})
	t.Run("an answer without end", func(t *testing.T) {
		_, _, err := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for range 17 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}).Devices(t.Context(), []string{"a"})
		require.ErrorIs(t, err, fault.TooLarge)
	})
	t.Run("ARNs that are none", func(t *testing.T) {
		things, skipped, err := serve(t, says(`{"results": [{"deviceId": "a", "awsIotThingArn": "x/y"}, {"deviceId": "b", "awsIotThingArn": "arn:aws:iot:eu-west-1:1:thing/"}]}`)).Devices(t.Context(), []string{"a", "b"})
		require.NoError(t, err)
		assert.Empty(t, things)
		assert.Len(t, skipped, 2)
	})
	t.Run("a redirect to another server is not followed", func(t *testing.T) {
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the key went to another server") }))
		defer other.Close()
		_, _, err := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }).Group(t.Context(), "/a")
		require.ErrorIs(t, err, fault.Unsupported)
	})
}

func TestConfigurationThatCannotWork(t *testing.T) {
	tests := map[string]assetlibrary.Config{
		"no URL":                 {Region: "r"},
		"another scheme":         {URL: "ftp://x", Region: "r"},
		"a query":                {URL: "http://x/?a=b", Region: "r"},
		"no region":              {URL: "http://x"},
		"a header without value": {URL: "http://x", Region: "r", Headers: []string{"a"}},
		"a header with a space":  {URL: "http://x", Region: "r", Headers: []string{"a b=c"}},
		"a header with a break":  {URL: "http://x", Region: "r", Headers: []string{"a=b\r\nc: d"}},
		"a header of transport":  {URL: "http://x", Region: "r", Headers: []string{"host=x"}},
	}
	for name, conf := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := assetlibrary.New(conf)
			require.Error(t, err)
		})
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"results": [{"deviceId": "a", "awsIotThingArn": "arn:aws:iot:eu-west-1:1:thing/a"}, {"groupPath": "/g"}], "pagination": {"offset": 0, "count": "1"}}`))
	f.Add([]byte(`{"results": [{"groupPath": "/g"}], "pagination": {"offset": -5, "count": 1e9}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := assetlibrary.New(assetlibrary.Config{URL: "http://x", Region: "eu-west-1", Transport: answers(body)})
		require.NoError(t, err)
		things, _, err := c.Query(t.Context(), json.RawMessage(`{"types": ["x"]}`))
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err))
			return
		}
		for _, name := range things {
			require.NotEmpty(t, name)
		}
	})
}

// answers gives the first request body, all others an empty page.
type answers []byte

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.URL.Path == "/search" && r.URL.Query().Get("offset") == "0" {
		_, _ = w.Write(a)
	} else {
		_, _ = w.WriteString(`{"results": []}`)
	}
	return w.Result(), nil
}

func FuzzQuery(f *testing.F) {
	f.Add(`{"types": ["a"], "eq": [{"field": "f", "value": "x y", "traversals": [{"relation": "r", "direction": "in"}]}]}`)
	c, err := assetlibrary.New(assetlibrary.Config{URL: "http://x", Region: "r", Transport: answers(`{"results": []}`)})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, raw string) {
		if err := c.CheckQuery(json.RawMessage(raw)); err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		_, _, err := c.Query(t.Context(), json.RawMessage(raw))
		require.NoError(t, err)
	})
}
