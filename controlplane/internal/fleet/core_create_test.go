package fleet_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// happened returns the details of a core's events of one type, oldest first.
func (k *kit) happened(core string, what event.Type) []map[string]any {
	k.t.Helper()
	var out []map[string]any
	require.NoError(k.t, state.All(k.ctx, k.store, state.Root+"event/outbox/", func(_ string, e state.Record[event.Event]) error {
		if e.Value.Core != core || e.Value.Type != what {
			return nil
		}
		var d map[string]any
		out = append(out, d)
		return json.Unmarshal(e.Value.Detail, &out[len(out)-1])
	}))
	return out
}

func TestEveryItemThatEndsIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		bad := newCore("bad")
		bad.ProvisioningTemplate = "none"
		first := k.create("2.18.0", newCore("gw"), bad)
		assert.Equal(t, []map[string]any{{"coreName": "gw", "taskId": first.ID, "status": "success"}}, k.happened("gw", event.CoreCreated))
		assert.Equal(t, []map[string]any{{
			"coreName": "bad", "taskId": first.ID, "status": "failed", "message": "Failed provisioning: INVALID_PROVISIONING_TEMPLATE: none",
		}}, k.happened("bad", event.CoreCreated))
		thing, err := k.cloud.Thing(k.ctx, "gw")
		require.NoError(t, err)
		_, err = k.cloud.Registry.Group(k.ctx, "gw")
		require.ErrorIs(t, err, fault.NotFound, "W-41: no thing group per core")
		issued := k.happened("gw", event.CertificateIssued)
		require.Len(t, issued, 1)
		assert.Equal(t, thing.Certificates[0], issued[0]["certificateId"])
		k.create("2.18.0", newCore("gw"))
		assert.Len(t, k.happened("gw", event.CoreCreated), 2, "one that exists is told as success")
		assert.Len(t, k.happened("gw", event.CertificateIssued), 1)
	})
}

func TestACoreThatFailedLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		for _, c := range []struct {
			name, says string
			damage     func(n *fleet.NewCore)
		}{
			{"W-43: a core that failed to provision is not listed", "Failed provisioning: ", func(n *fleet.NewCore) { n.ProvisioningTemplate = "none" }},
			{"W-45: no key is lost when the archive cannot be stored", "Failed uploading certs: full", func(*fleet.NewCore) {
				k.objects.Fail = func(op, key string) error {
					if op == "put" && strings.HasSuffix(key, "certs.zip") {
						return fault.New(fault.TooLarge, "full")
					}
					return nil
				}
			}},
			{"a configuration that cannot be stored", "Failed uploading config: full", func(*fleet.NewCore) {
				k.objects.Fail = func(op, key string) error {
					if op == "put" && strings.HasSuffix(key, "installerConfig.yml") {
						return fault.New(fault.TooLarge, "full")
					}
					return nil
				}
			}},
		} {
			in(t, c.name, func(t *testing.T) {
				n := newCore("gw")
				c.damage(&n)
				done := k.create("2.18.0", n)
				k.objects.Fail = nil
				assert.Equal(t, fleet.TaskFailure, done.Cores[0].Status)
				assert.Contains(t, done.Cores[0].StatusMessage, c.says)
				_, err := k.Core(k.ctx, "gw")
				require.ErrorIs(t, err, fault.NotFound)
				list, _, err := k.Cores(k.ctx, fleet.CoreFilter{}, fleet.Page{})
				require.NoError(t, err)
				assert.Empty(t, list)
				_, err = k.cloud.Thing(k.ctx, "gw")
				require.ErrorIs(t, err, fault.NotFound, "no thing, no certificate")
			})
		}
		assert.Equal(t, fleet.TaskSuccess, k.create("2.18.0", newCore("gw")).Status, "the next try makes it whole")
		assert.Len(t, k.core("gw").Artifacts, 2)
	})
}

func TestWhatIsMissingOfACoreIsMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.17.0", newCore("gw"))
		conf := k.core("gw").Artifacts[fleet.ArtifactConfig].Key
		require.NoError(t, k.objects.Delete(k.ctx, conf))
		again := newCore("gw")
		again.ConfigFileGenerator = ""
		done := k.create("2.18.0", again)
		assert.Equal(t, "Core device thing already provisioned", done.Cores[0].StatusMessage)
		assert.Contains(t, string(k.object(conf)), "version: 2.18.0\n", "W-42: by the generator that made it first")
		require.NoError(t, k.objects.Delete(k.ctx, k.core("gw").Artifacts[fleet.ArtifactCerts].Key))
		done = k.create("2.18.0", again)
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		assert.Equal(t, "Core device thing already provisioned; its certificate cannot be issued again", done.Cores[0].StatusMessage)
	})
}

func TestW40W42OnlyNotFoundMeansAbsent(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.17.0", newCore("gw"))
		left := 2
		k.objects.Fail = func(op, _ string) error {
			if op == "stat" && left > 0 {
				left--
				return errors.New("throttled")
			}
			return nil
		}
		done := k.create("2.18.0", newCore("gw"))
		assert.Equal(t, "Core device thing already provisioned", done.Cores[0].StatusMessage, "asked again until there is an answer")
		assert.Zero(t, left)
	})
}

func TestACoreThatItsDeviceClaims(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		n := newCore("gw")
		n.Claim, n.ConfigFileGenerator = true, ""
		_, err := k.CreateCoreTask(k.ctx, fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: "2.18.0", Cores: []fleet.NewCore{n}}, "")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "cores[0].claim", fault.FieldOf(err))

		n.ConfigFileGenerator = "MANUAL_INSTALL"
		require.Equal(t, fleet.TaskSuccess, k.create("2.18.0", n).Status, "W-94: no thing, no certificate, but a configuration")
		c := k.core("gw")
		assert.True(t, c.Claim)
		assert.Equal(t, []string{fleet.ArtifactConfig}, keys(c.Artifacts))
		_, err = k.cloud.Thing(k.ctx, "gw")
		require.ErrorIs(t, err, fault.NotFound)
		require.Equal(t, fleet.TaskSuccess, k.create("2.19.0", n).Status)
		assert.Equal(t, "2.19.0", k.core("gw").CoreVersion)

		n.Claim = false
		require.Equal(t, fleet.TaskSuccess, k.create("2.19.0", n).Status, "the operator changed their mind")
		assert.False(t, k.core("gw").Claim)
		assert.Len(t, k.core("gw").Artifacts, 2)
	})
}

func TestATemplateThatIsDeletedUnderATask(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.18.0", newCore("a"))
		require.NoError(t, k.tpl.Delete(k.ctx, "default", provisioning.Any))
		time.Sleep(10 * time.Second) // virtual
		done := k.create("2.18.0", newCore("b"))
		assert.Equal(t, "Failed provisioning: INVALID_PROVISIONING_TEMPLATE: default", done.Cores[0].StatusMessage)
	})
}

func TestAClientDeviceDoesNotBecomeACore(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.18.0", newCore("gw"))
		k.appear("gw")
		_, err := k.CreateDeviceTask(k.ctx, fleet.NewDeviceTask{Core: "gw", Type: fleet.CoreTaskCreate, Devices: []fleet.NewDevice{
			{Name: "sensor", ProvisioningTemplate: "default", ProvisioningParameters: map[string]string{"ThingName": "sensor"}},
		}}, "")
		require.NoError(t, err)
		time.Sleep(time.Minute) // virtual
		_, err = k.Device(k.ctx, "sensor")
		require.NoError(t, err)
		done := k.create("2.18.0", newCore("sensor"))
		assert.Equal(t, "sensor is a client device of this fleet and cannot be a core", done.Cores[0].StatusMessage)
		_, err = k.Core(k.ctx, "sensor")
		require.ErrorIs(t, err, fault.NotFound)
	})
}
