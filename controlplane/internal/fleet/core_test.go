package fleet_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestACoreIsCreatedWithAllThatItsInstallerNeeds(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		done := k.create("2.18.0", newCore("gw-1"), newCore("gw-2"))
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		require.Len(t, done.Cores, 2)
		assert.Equal(t, fleet.TaskSuccess, done.Cores[0].Status)

		c := k.core("gw-1")
		assert.Equal(t, "greengrass2/artifacts/gw-1/gw-1/certs.zip", c.Artifacts[fleet.ArtifactCerts].Key, "the name twice")
		assert.Equal(t, "greengrass2/artifacts/gw-1/gw-1/installerConfig.yml", c.Artifacts[fleet.ArtifactConfig].Key)
		assert.Equal(t, "bucket", c.Artifacts[fleet.ArtifactCerts].Bucket)
		assert.Equal(t, fleet.DeploymentNone, c.DeploymentStatus)
		assert.Zero(t, c.Desired)

		names, files := k.unzip(k.object(c.Artifacts[fleet.ArtifactCerts].Key))
		assert.Equal(t, []string{"certs/", "certs/cert.pem", "certs/private.key"}, names)
		certs, err := pki.ParseCerts(files["certs/cert.pem"])
		require.NoError(t, err)
		require.Len(t, certs, 1)
		assert.Equal(t, []string{"DE"}, certs[0].Subject.Country)
		assert.Equal(t, []string{"ACME"}, certs[0].Subject.Organization)
		block, rest := pem.Decode(files["certs/private.key"])
		assert.Equal(t, "PRIVATE KEY", block.Type, "PKCS#8: classic cannot read another form")
		assert.Empty(t, rest)
		key, err := pki.ParseKey(files["certs/private.key"])
		require.NoError(t, err)
		assert.True(t, certs[0].PublicKey.(*ecdsa.PublicKey).Equal(key.Public()))

		thing, err := k.cloud.Thing(k.ctx, "gw-1")
		require.NoError(t, err)
		assert.Equal(t, []string{pki.ID(certs[0].Raw)}, thing.Certificates)
		id, err := k.cloud.Registry.Identify(k.ctx, certs[0])
		require.NoError(t, err)
		assert.Equal(t, "gw-1", id.Thing)
		assert.Len(t, id.Policies, 2)

		conf := string(k.object(c.Artifacts[fleet.ArtifactConfig].Key))
		assert.True(t, strings.HasPrefix(conf, "---\nsystem:\n"))
		assert.Contains(t, conf, "thingName: gw-1\n")
		assert.Contains(t, conf, "version: 2.18.0\n")

		dump, err := k.store.List(k.ctx, "", "", 0)
		require.NoError(t, err)
		for _, e := range dump.Entries {
			assert.NotContains(t, string(e.Value), "PRIVATE KEY", "%s: no private key is in the store of record", e.Key)
		}
		v, err := k.Core(k.ctx, "gw-1")
		require.NoError(t, err)
		assert.Equal(t, fleet.StatusUnknown, v.Device.Status)
	})
}

func TestCreatingAgainRefreshesTheConfigurationAndNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.17.0", newCore("gw"))
		k.appear("gw")
		k.template("t", "1.0.0")
		k.deploy("t", 1, to("gw"))
		k.finish("gw", "SUCCEEDED")
		before := k.core("gw")
		zip := k.object(before.Artifacts[fleet.ArtifactCerts].Key)

		done := k.create("2.18.0", newCore("gw"))
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		assert.Equal(t, "Core device already registered", done.Cores[0].StatusMessage)
		after := k.core("gw")
		assert.Equal(t, before.Desired, after.Desired)
		assert.Equal(t, before.Reported, after.Reported)
		assert.Equal(t, fleet.DeploymentSuccess, after.DeploymentStatus)
		assert.Equal(t, before.CreatedAt, after.CreatedAt)
		assert.Equal(t, "2.18.0", after.CoreVersion)
		assert.Equal(t, zip, k.object(after.Artifacts[fleet.ArtifactCerts].Key))
		assert.Contains(t, string(k.object(after.Artifacts[fleet.ArtifactConfig].Key)), "version: 2.18.0\n")
		thing, err := k.cloud.Thing(k.ctx, "gw")
		require.NoError(t, err)
		assert.Len(t, thing.Certificates, 1, "no second certificate")

		k.create("2.17.0", newCore("cold"))
		assert.Equal(t, "Core device thing already provisioned", k.create("2.17.0", newCore("cold")).Cores[0].StatusMessage)
	})
}

func TestACoreWhoseThingIsThereAlready(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cloud.Client(t, "gw", nil, "CDFGreengrass2CorePolicy")
		done := k.create("2.18.0", newCore("gw"))
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		assert.Equal(t, "Core device thing already provisioned; its certificate cannot be issued again", done.Cores[0].StatusMessage)
		assert.Equal(t, []string{fleet.ArtifactConfig}, keys(k.core("gw").Artifacts))
	})
}

func TestACoreThatNoTaskMadeIsTakenInAsItIs(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cloud.Client(t, "gw", nil, "CDFGreengrass2CorePolicy")
		k.appear("gw")
		_, err := k.Core(k.ctx, "gw")
		require.ErrorIs(t, err, fault.NotFound, "cdf-services E13: also when the cloud knows it")
		assert.ErrorContains(t, err, "a core task of type Create takes it in")
		_, err = k.Core(k.ctx, "other")
		require.ErrorIs(t, err, fault.NotFound)
		assert.ErrorContains(t, err, "core other does not exist")
		before, err := k.cloud.Thing(k.ctx, "gw")
		require.NoError(t, err)

		n := newCore("gw")
		n.ConfigFileGenerator = ""
		assert.Equal(t, fleet.TaskSuccess, k.create("2.18.0", n).Status)
		v, err := k.Core(k.ctx, "gw")
		require.NoError(t, err)
		assert.Equal(t, "HEALTHY", v.Device.Status)
		assert.Empty(t, v.Artifacts)
		after, err := k.cloud.Thing(k.ctx, "gw")
		require.NoError(t, err)
		assert.Equal(t, before, after, "thing and certificates are as they were")
		list, _, err := k.Cores(k.ctx, fleet.CoreFilter{}, fleet.Page{})
		require.NoError(t, err)
		assert.Len(t, list, 1)
	})
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestACoreThatCannotBeProvisionedSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		put := func(id, old, now string) {
			k.provisioningTemplate(id, strings.Replace(string(provisioning.DefaultTemplate), old, now, 1))
		}
		put("nopolicy", "CDFGreengrass2CorePolicy", "NoSuchPolicy")
		for _, c := range []struct {
			name string
			edit func(n *fleet.NewCore)
			says string
		}{
			{"an unknown provisioning template", func(n *fleet.NewCore) { n.ProvisioningTemplate = "nope" }, "Failed provisioning: INVALID_PROVISIONING_TEMPLATE: nope"},
			{"an unknown CA", func(n *fleet.NewCore) {
				n.CDFProvisioningParameters = json.RawMessage(`{"caId":"` + strings.Repeat("0", 64) + `","certInfo":{"country":"DE"}}`)
			}, "Failed provisioning: CA certificate 0000"},
			{"another thing name", func(n *fleet.NewCore) { n.ProvisioningParameters = map[string]string{"ThingName": "other"} }, "provisioningParameters.ThingName"},
			{"a policy that is not there", func(n *fleet.NewCore) { n.ProvisioningTemplate = "nopolicy" }, "NoSuchPolicy"},
			{"a missing parameter", func(n *fleet.NewCore) { n.ProvisioningParameters = nil }, "ThingName"},
		} {
			in(t, c.name, func(t *testing.T) {
				bad := newCore("bad")
				c.edit(&bad)
				done := k.create("2.18.0", bad, newCore("good"))
				assert.Equal(t, fleet.TaskFailure, done.Status)
				assert.Equal(t, fleet.TaskFailure, done.Cores[0].Status)
				assert.Contains(t, done.Cores[0].StatusMessage, c.says)
				assert.Equal(t, fleet.TaskSuccess, done.Cores[1].Status, "the others are not held up")
				for _, name := range []string{"bad", "other"} {
					_, err := k.cloud.Thing(k.ctx, name)
					require.ErrorIs(t, err, fault.NotFound, "no orphan")
				}
				_, err := k.Core(k.ctx, "bad")
				require.ErrorIs(t, err, fault.NotFound)
			})
		}
	})
}

func TestACoreTaskThatCannotBeIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		good := func() fleet.NewCoreTask {
			return fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: "2.18.0", Cores: []fleet.NewCore{newCore("a")}}
		}
		for _, c := range []struct {
			name string
			edit func(n *fleet.NewCoreTask)
			kind error
			says string
		}{
			{"unknown type", func(n *fleet.NewCoreTask) { n.Type = "Update" }, fault.Invalid, "type"},
			{"no version", func(n *fleet.NewCoreTask) { n.CoreVersion = "" }, fault.Invalid, "coreVersion"},
			{"no cores", func(n *fleet.NewCoreTask) { n.Cores = nil }, fault.Invalid, "cores"},
			{"a bad name", func(n *fleet.NewCoreTask) { n.Cores[0].Name = "a b" }, fault.Invalid, "cores[0].name"},
			{"a name twice", func(n *fleet.NewCoreTask) { n.Cores = append(n.Cores, newCore("b"), newCore("a")) }, fault.Invalid, "cores[2].name"},
			{"a bad template id", func(n *fleet.NewCoreTask) { n.Cores[0].ProvisioningTemplate = "../x" }, fault.Invalid, "cores[0].provisioningTemplate"},
			{"a bad country", func(n *fleet.NewCoreTask) {
				n.Cores[0].CDFProvisioningParameters = json.RawMessage(`{"certInfo":{"country":"Germany"}}`)
			}, fault.Invalid, "cores[0].cdfProvisioningParameters.certInfo.country"},
			{"W-65: an unknown generator", func(n *fleet.NewCoreTask) { n.Cores[0].ConfigFileGenerator = "NONE" }, fault.Invalid, "cores[0].configFileGenerator"},
			{"an overlay that is no object", func(n *fleet.NewCoreTask) { n.Cores[0].ConfigOverlay = json.RawMessage(`[]`) }, fault.Invalid, "cores[0].configOverlay: is not a JSON object"},
			{"parameters without end", func(n *fleet.NewCoreTask) {
				n.Cores[0].ProvisioningParameters["x"] = strings.Repeat("x", 64<<10)
			}, fault.Invalid, "cores[0].provisioningParameters: have "},
			{"an overlay over nothing", func(n *fleet.NewCoreTask) {
				n.Cores[0].ConfigFileGenerator, n.Cores[0].ConfigOverlay = "", json.RawMessage(`{}`)
			}, fault.Invalid, "cores[0].configOverlay: needs a configFileGenerator"},
			{"a claim without a configuration", func(n *fleet.NewCoreTask) {
				n.Cores[0].ConfigFileGenerator, n.Cores[0].Claim = "", true
			}, fault.Invalid, "cores[0].claim: needs a configFileGenerator"},
		} {
			in(t, c.name, func(t *testing.T) {
				n := good()
				c.edit(&n)
				_, err := k.CreateCoreTask(k.ctx, n, "")
				require.ErrorIs(t, err, c.kind)
				assert.ErrorContains(t, err, c.says)
				list, _, err := k.CoreTasks(k.ctx, fleet.Page{})
				require.NoError(t, err)
				assert.Empty(t, list)
			})
		}
		first, err := k.CreateCoreTask(k.ctx, good(), "key")
		require.NoError(t, err)
		again, err := k.CreateCoreTask(k.ctx, good(), "key")
		require.NoError(t, err)
		assert.Equal(t, first, again)
		_, err = k.DeploymentTask(k.ctx, first, fleet.Page{})
		require.ErrorIs(t, err, fault.NotFound, "of another kind")
		_, err = k.CoreTask(k.ctx, "none", fleet.Page{})
		require.ErrorIs(t, err, fault.NotFound)
	})
}

func TestKeysAsTheTemplateAsksForThem(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioningTemplate("rsa", strings.Replace(string(provisioning.DefaultTemplate), `"createDeviceCertificate": true,`, `"createDeviceCertificate": true, "keyAlgorithm": "RSA_2048",`, 1))
		n := newCore("gw")
		n.ProvisioningTemplate = "rsa"
		require.Equal(t, fleet.TaskSuccess, k.create("2.18.0", n).Status)
		_, files := k.unzip(k.object(k.core("gw").Artifacts[fleet.ArtifactCerts].Key))
		key, err := pki.ParseKey(files["certs/private.key"])
		require.NoError(t, err)
		assert.Equal(t, 2048, key.Public().(*rsa.PublicKey).N.BitLen())
	})
}

func (k *kit) provisioningTemplate(id, document string) {
	k.t.Helper()
	_, err := k.tpl.Put(k.ctx, id, []byte(document), provisioning.Any)
	require.NoError(k.t, err)
}

func csr(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "whatever")
	require.NoError(t, err)
	return string(b)
}

func TestACoreWhoseKeyIsMadeOnTheDevice(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioningTemplate("device-key", string(provisioning.DeviceKeyTemplate))
		n := newCore("gw")
		n.ProvisioningTemplate = "device-key"
		require.Equal(t, fleet.TaskSuccess, k.create("2.18.0", n).Status)
		c := k.core("gw")
		assert.True(t, c.CertificatePending)
		assert.Equal(t, []string{fleet.ArtifactConfig}, keys(c.Artifacts))
		pending, certs, conf, err := k.EnrollCore(k.ctx, "gw")
		require.NoError(t, err)
		assert.True(t, pending)
		assert.Empty(t, certs)
		assert.NotEmpty(t, conf)
		assert.Equal(t, fleet.TaskSuccess, k.create("2.18.0", n).Status, "created again while it waits")
		assert.True(t, k.core("gw").CertificatePending)

		request := csr(t)
		first, err := k.CompleteCore(k.ctx, "gw", request)
		require.NoError(t, err)
		again, err := k.CompleteCore(k.ctx, "gw", request)
		require.NoError(t, err)
		assert.Equal(t, first, again, "a lost answer costs nothing")
		_, err = k.CompleteCore(k.ctx, "gw", csr(t))
		require.ErrorIs(t, err, fault.Conflict, "another key")
		_, err = k.CompleteCore(k.ctx, "gw", "x")
		require.ErrorIs(t, err, fault.Invalid)
		_, err = k.CompleteCore(k.ctx, "none", request)
		require.ErrorIs(t, err, fault.NotFound)

		list, err := pki.ParseCerts([]byte(first))
		require.NoError(t, err)
		id, err := k.cloud.Registry.Identify(k.ctx, list[0])
		require.NoError(t, err)
		assert.Equal(t, "gw", id.Thing)
		assert.Len(t, id.Policies, 2)
		assert.Equal(t, []string{"DE"}, list[0].Subject.Country, "what the task said, not what the device asks")
		assert.False(t, k.core("gw").CertificatePending)
		thing, err := k.cloud.Thing(k.ctx, "gw")
		require.NoError(t, err)
		assert.Len(t, thing.Certificates, 1)
	})
}

func TestTheKeyOfARenewedCertificateGoes(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		require.Equal(t, fleet.TaskSuccess, k.create("2.18.0", newCore("gw")).Status)
		zip := k.core("gw").Artifacts[fleet.ArtifactCerts].Key
		k.objects.Fail = func(op, _ string) error {
			if op == "delete" {
				return fault.New(fault.Unavailable, "away")
			}
			return nil
		}
		require.ErrorIs(t, k.CoreRenewed(k.ctx, "gw", "key", "pem"), fault.Unavailable)
		k.objects.Fail = nil
		for range 2 {
			require.NoError(t, k.CoreRenewed(k.ctx, "gw", "key", "pem"))
			_, err := k.objects.Stat(k.ctx, zip)
			require.ErrorIs(t, err, fault.NotFound)
		}
		_, certs, conf, err := k.EnrollCore(k.ctx, "gw")
		require.NoError(t, err)
		assert.Empty(t, certs)
		assert.NotEmpty(t, conf, "the rest stays")
		done := k.create("2.18.0", newCore("gw"))
		assert.NotContains(t, done.Cores[0].StatusMessage, "cannot be issued", "nothing is missing")
		require.NoError(t, k.CoreRenewed(k.ctx, "gone", "key", "pem"))
		require.NoError(t, k.DeviceRenewed(k.ctx, "gone", "key", "pem"))
	})
}

func TestTheArtifactStoreIsAwayForAWhile(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		left := 3
		k.objects.Fail = func(op, _ string) error {
			if op == "put" && left > 0 {
				left--
				return fault.New(fault.Unavailable, "away")
			}
			return nil
		}
		assert.Equal(t, fleet.TaskSuccess, k.create("2.18.0", newCore("gw")).Status)
		assert.Zero(t, left)
	})
}
