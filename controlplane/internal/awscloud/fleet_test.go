package awscloud_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/awscloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
)

// mixed is the cloud of a fleet service whose deployments are AWS's.
type mixed struct {
	cloud.Things
	cloud.PrivateCA
	cloud.Components
	cloud.Deployments
	cloud.CoreDevices
	cloud.Associations
}

// newFleet runs a fleet service whose deployments go through the adapter. It has
// records of its own.
func (k *kit) newFleet(t *testing.T) *fleet.Service {
	t.Helper()
	templates := provisioning.NewTemplates(objects.New("bucket"))
	const policy = "myTokenExchangeRoleAliasPolicy"
	require.NoError(t, k.Registry.EnsurePolicy(t.Context(), policy, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
	_, err := templates.Put(t.Context(), "default", provisioning.DefaultTemplate, provisioning.Any)
	require.NoError(t, err)
	c := mixed{Things: k.World, PrivateCA: k.World, Components: k.AWS, Deployments: k.AWS, Associations: k.AWS, CoreDevices: cores{k.World, k.AWS}}
	provisioner, err := provisioning.NewProvisioner(provisioning.Config{Cloud: c, Templates: templates, Realm: k.Realm})
	require.NoError(t, err)
	manual, err := config.NewManual(config.Settings{AWSRegion: "us-east-1", RoleAlias: "alias", DataEndpoint: "localhost", CredEndpoint: "localhost:8443", MQTTPort: 8883, DataPlanePort: 8443})
	require.NoError(t, err)
	s, err := fleet.New(fleet.Config{
		Store: k.Store, Objects: objects.New("bucket"), Cloud: c, Provisioner: provisioner, Realm: k.Realm, ArtifactPrefix: "greengrass2/artifacts/",
		Generators: config.NewRegistry(map[string]config.Generator{config.ManualInstall: manual}),
	})
	require.NoError(t, err)
	engine, err := task.New(task.Config{Store: k.Store, Kinds: s.Kinds()})
	require.NoError(t, err)
	s.Use(engine)
	runs(t, s.Run, engine.Run)
	<-s.Ready()
	return s
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, time.Minute, 10*time.Millisecond, what)
}

// The fleet service does not know which cloud it stands on.
func TestAFleetIsDeployedToThroughTheAdapter(t *testing.T) {
	k := newKit(t)
	k.AWS = k.adapter(t, func(c *awscloud.Config) { c.Poll = 50 * time.Millisecond })
	s := k.newFleet(t)
	var list []fleet.NewCore
	for _, name := range []string{"good", "bad"} {
		list = append(list, fleet.NewCore{
			Name: name, ProvisioningTemplate: "default", ProvisioningParameters: map[string]string{"ThingName": name},
			CDFProvisioningParameters: json.RawMessage(`{"certInfo":{"country":"DE"}}`), ConfigFileGenerator: "MANUAL_INSTALL",
		})
	}
	id, err := s.CreateCoreTask(t.Context(), fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: "2.18.0", Cores: list}, "")
	require.NoError(t, err)
	eventually(t, "the cores are made", func() bool {
		task, err := s.CoreTask(t.Context(), id, fleet.Page{})
		return err == nil && task.Status == fleet.TaskSuccess
	})
	for _, name := range []string{"good", "bad"} {
		require.NoError(t, k.Appear(t.Context(), name))
	}
	timeout := json.RawMessage(`{"timeoutConfig":{"inProgressTimeoutInMinutes":30}}`)
	targets, err := fleet.ParseTargets(json.RawMessage(`{"thingNames":["good","bad"]}`))
	require.NoError(t, err)
	for n, version := range []string{"1.0.0", "2.0.0"} {
		spec := fleet.NewTemplate{Name: "t", JobConfig: timeout, Components: []fleet.TemplateComponent{{Key: "com.example.App", Version: version}}}
		if n == 0 {
			_, err = s.CreateTemplate(t.Context(), spec)
		} else {
			_, err = s.UpdateTemplate(t.Context(), "t", spec)
		}
		require.NoError(t, err)
		eventually(t, "the template is listed", func() bool {
			v, err := s.Template(t.Context(), "t")
			return err == nil && v.Version == n+1
		})
		_, err = s.CreateDeploymentTask(t.Context(), fleet.NewDeploymentTask{TemplateName: "t", Targets: targets}, "")
		require.NoError(t, err)
		for name, status := range map[string]string{"good": "SUCCEEDED", "bad": "FAILED"} {
			var job string
			eventually(t, name+" gets its deployment", func() bool {
				pending, err := k.Jobs.Pending(t.Context(), name)
				if err == nil && len(pending) == 1 {
					job = pending[0].JobID
				}
				return job != ""
			})
			require.NoError(t, k.Finish(t.Context(), name, job, status))
		}
		ref := fleet.TemplateRef{Name: "t", Version: n + 1}
		eventually(t, "what the cores report is known", func() bool {
			good, err := s.Core(t.Context(), "good")
			if err != nil {
				return false
			}
			bad, err := s.Core(t.Context(), "bad")
			return err == nil && good.Core.Reported == ref && good.Core.DeploymentStatus == fleet.DeploymentSuccess &&
				bad.Core.Desired == ref && bad.Core.DeploymentStatus == fleet.DeploymentFailure
		})
		bad, err := s.Core(t.Context(), "bad")
		require.NoError(t, err)
		assert.Contains(t, bad.Core.DeploymentMessage, "FAILED_ROLLBACK_COMPLETE")
		thing, err := k.Thing(t.Context(), "good")
		require.NoError(t, err)
		assert.Len(t, thing.Groups, 1, "it left the group of before")
	}
}
