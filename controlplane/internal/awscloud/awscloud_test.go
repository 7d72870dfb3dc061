package awscloud_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/awscloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

const group = "fleet_v1"

func deployment() cloud.GroupDeployment {
	return cloud.GroupDeployment{Group: group, Name: "fleet", Components: []cloud.DeployComponent{{Name: "com.example.App", Version: "1.0.0"}}}
}

func ours(g string) bool { return strings.HasPrefix(g, "fleet_") }

// recorder notes the calls that change something.
type recorder struct {
	mu    sync.Mutex // guards calls
	calls []string
}

func (c *recorder) note(_ http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls = append(c.calls, r.Method+" "+r.URL.Path+" "+string(body))
	}
	return false
}

func (c *recorder) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.calls
	c.calls = nil
	return out
}

func (k *kit) core(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, k.Register(t.Context(), cloud.Registration{Thing: name}, func(b *state.Batch) error { return k.Commit(t.Context(), b) }))
}

func (k *kit) move(t *testing.T, m cloud.Move) (e cloud.Execution) {
	t.Helper()
	require.NoError(t, k.AWS.Move(t.Context(), m, func(_ *state.Batch, x cloud.Execution) error {
		e = x
		return nil
	}))
	return e
}

func TestAMoveIsOneCall(t *testing.T) {
	k := newKit(t)
	k.core(t, "core")
	_, err := k.AWS.Ensure(t.Context(), deployment(), "one")
	require.NoError(t, err)
	next := deployment()
	next.Group = "fleet_v2"
	_, err = k.AWS.Ensure(t.Context(), next, "two")
	require.NoError(t, err)
	k.move(t, cloud.Move{Core: "core", Leave: ours, Join: group})

	var seen recorder
	k.Before = seen.note
	k.move(t, cloud.Move{Core: "core", Leave: ours, Join: "fleet_v2"})
	assert.Equal(t, []string{`PUT /thing-groups/updateThingGroupsForThing {"thingGroupsToAdd":["fleet_v2"],"thingGroupsToRemove":["fleet_v1"],"thingName":"core"}`}, seen.take())
	k.move(t, cloud.Move{Core: "core", Leave: ours, Join: "fleet_v2"})
	assert.Empty(t, seen.take(), "it is there")
	k.move(t, cloud.Move{Core: "core", Leave: ours, Join: "fleet_v2", Again: true})
	assert.Len(t, seen.take(), 2, "out and in again")
}

func TestADeploymentSaysAllThatTheTemplateSays(t *testing.T) {
	k := newKit(t)
	var seen recorder
	k.Before = seen.note
	d := deployment()
	d.Description = "north"
	d.Tags = map[string]string{"site": "north"}
	d.Components[0].Merge, d.Components[0].Reset, d.Components[0].PosixUser = `{"a":1}`, []string{"/b"}, "ggc_user:ggc_group"
	d.Policies = json.RawMessage(`{"failureHandlingPolicy":"DO_NOTHING","componentUpdatePolicy":{"timeoutInSeconds":120,"action":"SKIP_NOTIFY_COMPONENTS"},"configurationValidationPolicy":{"timeoutInSeconds":60}}`)
	d.JobConfig = json.RawMessage(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":5},"abortConfig":{"criteriaList":[]},"timeoutConfig":{"inProgressTimeoutInMinutes":9}}`)
	_, err := k.AWS.Ensure(t.Context(), d, "token")
	require.NoError(t, err)
	calls := seen.take()
	require.Len(t, calls, 2)
	assert.Equal(t, `POST /thing-groups/fleet_v1 {"tags":[{"Key":"site","Value":"north"}],"thingGroupProperties":{"thingGroupDescription":"north"}}`, calls[0])
	var said map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(calls[1], "POST /greengrass/v2/deployments ")), &said))
	assert.Regexp(t, `^[0-9a-f]{64}$`, said["clientToken"])
	delete(said, "clientToken")
	want := `{"targetArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/fleet_v1","deploymentName":"fleet",
		"components":{"com.example.App":{"componentVersion":"1.0.0","configurationUpdate":{"merge":"{\"a\":1}","reset":["/b"]},"runWith":{"posixUser":"ggc_user:ggc_group"}}},
		"deploymentPolicies":{"failureHandlingPolicy":"DO_NOTHING","componentUpdatePolicy":{"timeoutInSeconds":120,"action":"SKIP_NOTIFY_COMPONENTS"},"configurationValidationPolicy":{"timeoutInSeconds":60}},
		"iotJobConfiguration":{"timeoutConfig":{"inProgressTimeoutInMinutes":9}},
		"tags":{"site":"north","ggfleet:token":"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0"}}`
	got, err := json.Marshal(said)
	require.NoError(t, err)
	assert.JSONEq(t, want, string(got), "pace and abort criteria are the fleet service's own")

	for field, bad := range map[string]func(*cloud.GroupDeployment){
		"deploymentPolicies": func(d *cloud.GroupDeployment) { d.Policies = json.RawMessage(`[]`) },
		"jobConfig":          func(d *cloud.GroupDeployment) { d.JobConfig = json.RawMessage(`"x"`) },
	} {
		d := deployment()
		bad(&d)
		_, err := k.AWS.Ensure(t.Context(), d, "token")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, field, fault.FieldOf(err))
	}
}

// What is lost on the way back has happened: doing it again must not do it twice.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	for name, path := range map[string]string{
		"of the thing group": "/thing-groups/" + group, "of the deployment": "/greengrass/v2/deployments", "of the move": "/thing-groups/updateThingGroupsForThing",
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.core(t, "core")
			var once sync.Once
			lost := false
			k.Before = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == path && r.Method != http.MethodGet {
					once.Do(func() {
						lost = true
						k.handler.ServeHTTP(httptest.NewRecorder(), r)
						panic(http.ErrAbortHandler)
					})
				}
				return false
			}
			first, err := k.AWS.Ensure(t.Context(), deployment(), "token")
			require.NoError(t, err)
			e := k.move(t, cloud.Move{Core: "core", Leave: ours, Join: group})
			assert.True(t, lost)
			assert.Equal(t, int64(1), e.Number)
			assert.Equal(t, first.ID, e.DeploymentID)
			all, _, err := k.Greengrass.List(t.Context(), greengrass.Filter{}, "", 10)
			require.NoError(t, err)
			assert.Len(t, all, 1)
		})
	}
}

func TestErrorsOfAWSBecomeKinds(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		code   string
		kind   fault.Kind
	}{
		"throttled":           {429, "ThrottlingException", fault.Exhausted},
		"throttled, as IoT":   {400, "ThrottlingException", fault.Exhausted},
		"a quota":             {402, "ServiceQuotaExceededException", fault.Exhausted},
		"not allowed":         {403, "AccessDeniedException", fault.Denied},
		"a revoked key":       {403, "UnrecognizedClientException", fault.Unauthenticated},
		"a defect":            {500, "InternalServerException", fault.Unavailable},
		"no JSON from AWS":    {502, "", fault.Unavailable},
		"somebody is quicker": {409, "ConflictException", fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for its retries
			k := newKit(t)
			calls := 0
			k.Before = func(w http.ResponseWriter, _ *http.Request) bool {
				calls++
				if tt.code != "" {
					w.Header().Set("X-Amzn-ErrorType", tt.code)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, `{"message":"said so"}`)
				return true
			}
			err := k.AWS.Members(t.Context(), group, func(string) error { return nil })
			require.ErrorIs(t, err, tt.kind)
			assert.Contains(t, fault.Message(err), group)
			assert.LessOrEqual(t, calls, 3, "retries are bounded")
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		k := newKit(t)
		k.Before = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
		require.ErrorIs(t, k.AWS.Deployable(t.Context(), "com.example.App", "1.0.0"), fault.Unavailable)
	})
}

// On AWS a core's execution is made a moment after it joined.
func TestAnExecutionThatDoesNotComeIsNotMissed(t *testing.T) {
	k := newKit(t)
	k.core(t, "core")
	c := k.adapter(t, func(c *awscloud.Config) { c.Settle = 300 * time.Millisecond })
	_, err := c.Ensure(t.Context(), deployment(), "token")
	require.NoError(t, err)
	hidden := true
	k.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !hidden || !strings.HasPrefix(r.URL.Path, "/things/core/jobs/") {
			return false
		}
		w.Header().Set("X-Amzn-ErrorType", "ResourceNotFoundException")
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	m := cloud.Move{Core: "core", Leave: ours, Join: group}
	err = c.Move(t.Context(), m, func(*state.Batch, cloud.Execution) error { t.Error("nothing may be committed"); return nil })
	require.ErrorIs(t, err, fault.Unavailable)
	hidden = false
	assert.Equal(t, int64(1), k.move(t, m).Number, "the retry finds it")
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	good := awscloud.Config{Realm: names.Realm{Region: "us-east-1", Account: "000000000000"}, AccessKey: "k", Secret: logx.NewSecret("s")}
	_, err := awscloud.New(good)
	require.NoError(t, err)
	for name, change := range map[string]func(*awscloud.Config){
		"no region":            func(c *awscloud.Config) { c.Realm.Region = "" },
		"no secret":            func(c *awscloud.Config) { c.Secret = logx.Secret{} },
		"a client that hangs":  func(c *awscloud.Config) { c.HTTP = &http.Client{} },
		"a negative poll":      func(c *awscloud.Config) { c.Poll = -1 },
		"a negative settling":  func(c *awscloud.Config) { c.Settle = -1 },
		"no account":           func(c *awscloud.Config) { c.Realm.Account = "" },
		"no access key at all": func(c *awscloud.Config) { c.AccessKey = "" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			_, err := awscloud.New(c)
			require.Error(t, err)
		})
	}
}

func TestMembersComeInNameOrderWhateverTheirNumber(t *testing.T) {
	k := newKit(t)
	_, err := k.AWS.Ensure(t.Context(), deployment(), "token")
	require.NoError(t, err)
	var want []string
	for i := range 260 { // more than a page
		name := "core-" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		k.core(t, name)
		require.NoError(t, k.World.Cloud.Move(t.Context(), cloud.Move{Core: name, Leave: ours, Join: group}, func(b *state.Batch, _ cloud.Execution) error { return k.Commit(t.Context(), b) }))
		want = append(want, name)
	}
	slices.Sort(want)
	var got []string
	require.NoError(t, k.AWS.Members(t.Context(), group, func(thing string) error {
		got = append(got, thing)
		return nil
	}))
	assert.Equal(t, want, got)
}
