package fleet_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/assetlibrary"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/assetlibrarytest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// direct hands requests to a server without a network, which a bubble of
// virtual time does not have.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	r.RequestURI = r.URL.RequestURI()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// library connects the fleet to an Asset Library in which things a, b and c are
// devices of group /hall, beside some that are special.
func library(t *testing.T, k *kit) *assetlibrarytest.Server {
	t.Helper()
	arn := func(thing string) string { return "arn:aws:iot:us-east-1:000000000000:thing/" + thing }
	s := &assetlibrarytest.Server{Strict: true, Groups: []assetlibrarytest.Group{{Path: "/hall", Type: "hall"}, {Path: "/empty", Type: "hall"}}}
	for _, name := range []string{"a", "b", "c", "sensor"} {
		s.Devices = append(s.Devices, assetlibrarytest.Device{ID: "dev-" + name, ThingARN: arn(name), Type: "gateway", Groups: []string{"/hall"}})
	}
	s.Devices = append(s.Devices, assetlibrarytest.Device{ID: "bare", Type: "bare"})
	c, err := assetlibrary.New(assetlibrary.Config{URL: "http://assets", Region: "us-east-1", Transport: direct{s}})
	require.NoError(t, err)
	k.stop()
	k.assets = c
	k.start()
	return s
}

func TestTargetsOfTheAssetLibrary(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		s := library(t, k)
		k.provisioned("a", "b", "c")
		k.template("t", "1.0.0")
		want := map[string]struct {
			targets string
			cores   int
			says    []string
		}{
			"a group; a thing that is no core is counted": {`{"assetLibraryGroupPaths": ["/hall"]}`, 3, []string{"1 names found by groups and queries are no cores"}},
			"a query that finds a group":                  {`{"assetLibraryQuery": {"types": ["hall"]}, "thingNames": ["a"]}`, 3, []string{"1 names"}},
			"W-130: one missing device fails nothing": {
				`{"assetLibraryDeviceIds": ["dev-a", "gone", "bare", "dev-b"]}`, 2,
				[]string{"2 left out by the Asset Library: ", "device gone is unknown", "device bare has no thing"},
			},
		}
		for name, c := range want {
			parsed, err := fleet.ParseTargets(json.RawMessage(c.targets))
			require.NoError(t, err)
			d := k.deploy("t", 1, parsed)
			assert.Equal(t, fleet.TaskSuccess, d.Status, name)
			assert.Len(t, d.Deployments, c.cores, name)
			for _, text := range c.says {
				assert.Contains(t, d.StatusMessage, text, name)
			}
		}
		for name, c := range map[string]struct{ targets, says string }{
			"W-33: an empty group ends the task":   {`{"assetLibraryGroupPaths": ["/empty"]}`, "name no core of this fleet"},
			"W-33: an unknown group ends the task": {`{"assetLibraryGroupPaths": ["/gone"]}`, "group /gone is unknown to the Asset Library"},
			"W-33: only unknown devices":           {`{"assetLibraryDeviceIds": ["gone"]}`, "device gone is unknown"},
		} {
			parsed, err := fleet.ParseTargets(json.RawMessage(c.targets))
			require.NoError(t, err)
			d := k.deploy("t", 1, parsed)
			assert.Equal(t, fleet.TaskFailure, d.Status, name)
			assert.Contains(t, d.StatusMessage, c.says, name)
		}
		s.Fail(503, 429, 500)
		d := k.deploy("t", 1, targets(map[string][]string{"assetLibraryGroupPaths": {"/hall"}}))
		assert.Equal(t, fleet.TaskSuccess, d.Status, "what may pass is tried again: %s", d.StatusMessage)
	})
}

func TestQueriesAreCheckedBeforeATaskIsMade(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.template("t", "1.0.0")
		create := func(query string) error {
			_, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "t", Targets: fleet.Targets{Query: json.RawMessage(query), Raw: json.RawMessage(`{}`)}}, "")
			return err
		}
		require.ErrorIs(t, create(`{"types": ["x"]}`), fault.Invalid, "no Asset Library is connected")
		library(t, k)
		for query, field := range map[string]string{
			`{}`: "targets.assetLibraryQuery", `{"eq": [{"field": "a"}]}`: "targets.assetLibraryQuery.eq[0].value",
		} {
			err := create(query)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, field, fault.FieldOf(err), fmt.Sprint(err))
		}
	})
}
