package greengrassapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/greengrassapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	objectmemory "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	statememory "github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// trusting believes everybody; fuzzed requests are not signed.
type trusting struct{}

func (trusting) Authenticate(*http.Request, func() (string, error)) (rest.Caller, error) {
	return rest.Caller{AccessKey: "AKIAFUZZ"}, nil
}

type noLinks struct{}

func (noLinks) URL(key, _, _ string) (string, error) { return "http://127.0.0.1/" + key, nil }

// every version of a component can be deployed.
type every struct{}

func (every) Deployable(context.Context, string, string) error { return nil }

// deploymentAPI is the API over a store in memory with thing group g and thing x.
func deploymentAPI(tb testing.TB) http.Handler {
	tb.Helper()
	store := statememory.New()
	realm := names.Realm{Region: "us-east-1", Account: "000000000000"}
	root, err := pki.NewRoot("test", time.Now(), time.Hour)
	require.NoError(tb, err)
	registry, err := iot.New(iot.Config{Store: store, Realm: realm, CA: &iot.CA{ID: "ca", Root: root.Cert, Issuer: root}})
	require.NoError(tb, err)
	work, err := jobs.New(jobs.Config{Store: store})
	require.NoError(tb, err)
	gg, err := greengrass.New(greengrass.Config{Store: store, Registry: registry, Jobs: work, Components: every{}})
	require.NoError(tb, err)
	components, err := component.New(component.Config{Store: store, Objects: objectmemory.New("objects"), Realm: realm, Prefix: "components/"})
	require.NoError(tb, err)
	_, err = registry.EnsureGroup(tb.Context(), "g", "", nil)
	require.NoError(tb, err)
	b := state.NewBatch(state.StepCoreRegister)
	_, err = registry.RegisterBatch(tb.Context(), b, cloud.Registration{Thing: "x"})
	require.NoError(tb, err)
	_, err = store.Commit(tb.Context(), b)
	require.NoError(tb, err)
	h, err := greengrassapi.New(greengrassapi.Config{Greengrass: gg, Components: components, Registry: registry, URLs: noLinks{}, Realm: realm, Auth: trusting{}})
	require.NoError(tb, err)
	return h
}

func ask(h http.Handler, method, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return w
}

// Whatever comes as the body of CreateDeployment is refused with an error of the
// model, or stored and read back: what was given is there, and given again it
// makes the same deployment.
func FuzzCreateDeployment(f *testing.F) {
	const group = `{"targetArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/g"`
	for _, body := range []string{
		`{"targetArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/g",
 "deploymentName":"line 1",
 "components":{"com.example.Hello":{"componentVersion":"1.0.0",
   "configurationUpdate":{"reset":["/network/useHttps","/tags"],"merge":"{\"tags\":[\"a\"]}"},
   "runWith":{"posixUser":"ggc_user:ggc_group","systemResourceLimits":{"memory":65536,"cpus":0.5},"windowsUser":"ggc"}}},
 "iotJobConfiguration":{
   "jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":5,"incrementFactor":2,"rateIncreaseCriteria":{"numberOfNotifiedThings":10}},"maximumPerMinute":50},
   "abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":5,"minNumberOfExecutedThings":100}]},
   "timeoutConfig":{"inProgressTimeoutInMinutes":5}},
 "deploymentPolicies":{"failureHandlingPolicy":"ROLLBACK","componentUpdatePolicy":{"timeoutInSeconds":60,"action":"NOTIFY_COMPONENTS"},"configurationValidationPolicy":{"timeoutInSeconds":30}},
 "tags":{"env":"test"},"clientToken":"1cbcda76-ffdd-4169-9bb9-0dc014bfd962"}`,
		`{"targetArn":"arn:aws:iot:us-east-1:000000000000:thing/x"}`, group + `,"parentTargetArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/g"}`,
		group + `,"components":null,"iotJobConfiguration":{},"deploymentPolicies":{},"tags":{}}`,
		group + `,"components":{"a":{"componentVersion":"1.0.0","configurationUpdate":{"merge":"[]","reset":["x"]},"runWith":{"systemResourceLimits":{"memory":1e999,"cpus":-0}}}}}`,
		group + `,"iotJobConfiguration":{"abortConfig":{"criteriaList":[null]}}}`, `[]`, `{`, ``, `null`, "{}\x00",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h := deploymentAPI(t)
		w := ask(h, http.MethodPost, "/greengrass/v2/deployments", body)
		answer := decoded(t, w)
		switch w.Code {
		case http.StatusCreated:
		case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict:
			assert.NotEmpty(t, w.Header().Get("X-Amzn-Errortype"))
			assert.NotEmpty(t, answer["message"])
			return
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		id, _ := answer["deploymentId"].(string)
		w = ask(h, http.MethodGet, "/greengrass/v2/deployments/"+url.PathEscape(id), nil)
		require.Equal(t, http.StatusOK, w.Code)
		got := decoded(t, w)
		assert.Equal(t, "1", got["revisionId"])
		assert.Equal(t, "ACTIVE", got["deploymentStatus"])
		// Read back, changed in nothing and posted again: the next revision says the same.
		w = ask(h, http.MethodPost, "/greengrass/v2/deployments", reposted(t, got))
		require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
		again := decoded(t, ask(h, http.MethodGet, "/greengrass/v2/deployments/"+decoded(t, w)["deploymentId"].(string), nil))
		assert.Equal(t, "2", again["revisionId"])
		for _, own := range []string{"revisionId", "deploymentId", "iotJobId", "iotJobArn", "creationTimestamp"} {
			delete(got, own)
			delete(again, own)
		}
		assert.Equal(t, got, again)
	})
}

// decoded keeps numbers as they are written: the largest memory is no float64.
func decoded(t *testing.T, w *httptest.ResponseRecorder) (out map[string]any) {
	t.Helper()
	d := json.NewDecoder(w.Body)
	d.UseNumber()
	require.NoError(t, d.Decode(&out))
	return out
}

// reposted is what a client sends to revise a deployment that it read.
func reposted(t *testing.T, got map[string]any) []byte {
	t.Helper()
	in := map[string]any{}
	for _, m := range []string{"targetArn", "deploymentName", "components", "iotJobConfiguration", "deploymentPolicies", "tags", "parentTargetArn"} {
		if v, there := got[m]; there {
			in[m] = v
		}
	}
	b, err := json.Marshal(in)
	require.NoError(t, err)
	return b
}
