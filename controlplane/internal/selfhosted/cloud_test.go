package selfhosted_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud/cloudtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestTheSelfHostedCloudKeepsTheContract(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) state.Store{
		"memory": func(*testing.T) state.Store { return memory.New() },
		"etcd":   func(t *testing.T) state.Store { t.Helper(); return etcdtest.Open(t) },
	} {
		t.Run(name, func(t *testing.T) {
			cloudtest.Run(t, func(t *testing.T) cloudtest.Subject {
				t.Helper()
				w := selfhostedtest.New(t, open(t))
				w.RunRollouts(t)
				return cloudtest.Subject{
					Things: w, Components: w, Deployments: w, CoreDevices: w, Associations: w, PrivateCA: w,
					Commit: w.Commit, Finish: w.Finish, Appear: w.Appear, Ail: w.Ail, Pass: w.Pass, Connects: w.Connects,
					PrivateCAARN: w.Registry.PrivateCAARN(), CA: w.CA.Issuer, CAID: w.CA.ID,
					Policy: selfhostedtest.Policy, Component: "com.example.App", Atomic: true, OwnTimeout: true,
				}
			})
		})
	}
}

func TestWhoIsInAGroupGetsItsDeploymentFromTheDriver(t *testing.T) {
	for name, store := range map[string]state.Store{"memory": memory.New(), "etcd": etcdtest.Open(t)} {
		t.Run(name, func(t *testing.T) {
			w := selfhostedtest.New(t, store)
			for _, n := range []string{"a", "b"} {
				w.Client(t, n, nil)
			}
			old, err := w.Ensure(t.Context(), cloud.GroupDeployment{Group: "g"}, "first")
			require.NoError(t, err)
			for _, n := range []string{"a", "b"} {
				require.NoError(t, w.Move(t.Context(), cloud.Move{Core: n, Join: "g", Leave: func(string) bool { return false }}, func(b *state.Batch, _ cloud.Execution) error { return w.Commit(t.Context(), b) }))
			}
			require.NoError(t, w.Finish(t.Context(), "a", old.JobID, "IN_PROGRESS"))
			d, err := w.Ensure(t.Context(), cloud.GroupDeployment{Group: "g"}, "second")
			require.NoError(t, err)
			w.RunRollouts(t)
			waits := func(core string, want ...string) {
				require.EventuallyWithT(t, func(c *assert.CollectT) {
					list, err := w.Jobs.Pending(t.Context(), core)
					require.NoError(c, err)
					got := []string{}
					for _, e := range list {
						got = append(got, e.JobID)
					}
					require.Equal(c, want, got)
				}, 2*time.Minute, 5*time.Millisecond)
			}
			waits("a", old.JobID, d.JobID)
			waits("b", d.JobID)
		})
	}
}

func TestPoliciesOfADeployment(t *testing.T) {
	for _, c := range []struct{ name, policies, job, says, document string }{
		{"defaults", ``, ``, "", `{"failureHandlingPolicy":"ROLLBACK","componentUpdatePolicy":{"timeout":60,"action":"NOTIFY_COMPONENTS"},"configurationValidationPolicy":{"timeout":30}}`},
		{"a member does not reset its neighbours", `{"componentUpdatePolicy":{"action":"SKIP_NOTIFY_COMPONENTS"}}`, ``, "", `{"failureHandlingPolicy":"ROLLBACK","componentUpdatePolicy":{"timeout":60,"action":"SKIP_NOTIFY_COMPONENTS"},"configurationValidationPolicy":{"timeout":30}}`},
		{"all given", `{"failureHandlingPolicy":"DO_NOTHING","componentUpdatePolicy":{"timeoutInSeconds":0},"configurationValidationPolicy":{"timeoutInSeconds":5}}`, `{"timeoutConfig":{"inProgressTimeoutInMinutes":10080}}`, "", `{"failureHandlingPolicy":"DO_NOTHING","componentUpdatePolicy":{"timeout":0,"action":"NOTIFY_COMPONENTS"},"configurationValidationPolicy":{"timeout":5}}`},
		{"unknown handling", `{"failureHandlingPolicy":"RETRY"}`, ``, "deploymentPolicies.failureHandlingPolicy", ""},
		{"unknown action", `{"componentUpdatePolicy":{"action":"ASK"}}`, ``, "deploymentPolicies.componentUpdatePolicy.action", ""},
		{"negative time", `{"configurationValidationPolicy":{"timeoutInSeconds":-1}}`, ``, "deploymentPolicies", ""},
		{"no object", `[]`, ``, "deploymentPolicies", ""},
		{"no time at all", ``, `{"timeoutConfig":{"inProgressTimeoutInMinutes":0}}`, "inProgressTimeoutInMinutes", ""},
		{"too much time", ``, `{"timeoutConfig":{"inProgressTimeoutInMinutes":10081}}`, "inProgressTimeoutInMinutes", ""},
		{"no job configuration", ``, `[]`, "jobConfig", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := selfhostedtest.New(t, memory.New())
			d, err := w.Ensure(t.Context(), cloud.GroupDeployment{
				Group: "g", Name: "n", Policies: json.RawMessage(c.policies), JobConfig: json.RawMessage(c.job),
				Components: []cloud.DeployComponent{{Name: "com.example.App", Version: "1.0.0", PosixUser: "u:g"}},
			}, "")
			if c.says != "" {
				require.ErrorIs(t, err, fault.Invalid)
				assert.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			j, err := w.Jobs.Job(t.Context(), d.JobID)
			require.NoError(t, err)
			var doc, want map[string]any
			require.NoError(t, json.Unmarshal(j.Value.Document, &doc))
			require.NoError(t, json.Unmarshal([]byte(c.document), &want))
			for k, v := range want {
				assert.Equal(t, v, doc[k])
			}
			assert.Equal(t, map[string]any{"version": "1.0.0", "runWith": map[string]any{"posixUser": "u:g"}}, doc["components"].(map[string]any)["com.example.App"])
		})
	}
}
