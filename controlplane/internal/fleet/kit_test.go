package fleet_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
)

// kit is a fleet on a self-hosted cloud, all in memory. Its engine and its view
// run until stop; it lives in a bubble of virtual time.
type kit struct {
	*fleet.Service
	t       selfhostedtest.TB
	ctx     context.Context
	stop    func()
	store   state.Store
	fail    atomic.Pointer[func(*state.Batch) error] // asked before each commit; nil: none fails
	objects *objects.Store
	cloud   *selfhostedtest.World
	tpl     *provisioning.Templates
	forgot  forgotten
	assets  fleet.AssetLibrary // taken by start
}

// forgotten keeps the devices whose activations were to be forgotten.
type forgotten struct{ sync.Map }

func (f *forgotten) Forget(_ context.Context, device string) error {
	f.Store(device, true)
	return nil
}

func newKit(t selfhostedtest.TB) *kit {
	t.Helper()
	ctx := context.Background()
	records := memory.New()
	k := &kit{t: t, ctx: ctx, store: state.NewHub(records), objects: objects.New("bucket")}
	records.FailCommit = func(b *state.Batch) error {
		if f := k.fail.Load(); f != nil {
			return (*f)(b)
		}
		return nil
	}
	k.cloud = selfhostedtest.New(t, k.store)
	require.NoError(t, k.cloud.Registry.EnsurePolicy(ctx, "myTokenExchangeRoleAliasPolicy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"*"}]}`))
	k.tpl = provisioning.NewTemplates(k.objects)
	_, err := k.tpl.Put(ctx, "default", provisioning.DefaultTemplate, provisioning.Any)
	require.NoError(t, err)
	k.start()
	return k
}

// start makes a service over what is stored and runs it until stop; after a stop
// it is what a restart of the process is.
func (k *kit) start() {
	t := k.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	k.ctx = ctx
	manual, err := config.NewManual(config.Settings{AWSRegion: "us-east-1", RoleAlias: "alias", DataEndpoint: "localhost", CredEndpoint: "localhost:8443", MQTTPort: 8883, DataPlanePort: 8443})
	require.NoError(t, err)
	provisioner, err := provisioning.NewProvisioner(provisioning.Config{Cloud: k.cloud, Templates: k.tpl, Realm: k.cloud.Realm})
	require.NoError(t, err)
	k.Service, err = fleet.New(fleet.Config{
		Store: k.store, Objects: k.objects, Cloud: k.cloud, Provisioner: provisioner, Realm: k.cloud.Realm, ArtifactPrefix: "greengrass2/artifacts/",
		Assets: k.assets, Activations: &k.forgot, Deprovision: cloud.Deprovision{Certificates: true},
		Generators: config.NewRegistry(map[string]config.Generator{config.ManualInstall: manual}),
	})
	require.NoError(t, err)
	engine, err := task.New(task.Config{Store: k.store, Kinds: k.Kinds()})
	require.NoError(t, err)
	k.Use(engine)
	done := make(chan error, 2)
	go func() { done <- k.Run(ctx) }()
	go func() { done <- engine.Run(ctx) }()
	k.stop = func() {
		cancel()
		assert.NoError(t, <-done)
		assert.NoError(t, <-done)
	}
	<-k.Ready()
}

// bubble runs test with a kit.
func bubble(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		defer func() { k.stop() }()
		test(t, k)
	})
}

// in is a subtest: a bubble has no room for those of package testing.
func in(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log("in the case:", name)
		}
	}()
	test(t)
}

func newCore(name string) fleet.NewCore {
	return fleet.NewCore{
		Name: name, ProvisioningTemplate: "default", ProvisioningParameters: map[string]string{"ThingName": name},
		CDFProvisioningParameters: json.RawMessage(`{"certInfo":{"country":"DE","organization":"ACME"}}`), ConfigFileGenerator: "MANUAL_INSTALL",
	}
}

// create runs a core task to its end.
func (k *kit) create(version string, cores ...fleet.NewCore) fleet.CoreTask {
	k.t.Helper()
	id, err := k.CreateCoreTask(k.ctx, fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: version, Cores: cores}, "")
	require.NoError(k.t, err)
	for {
		t, err := k.CoreTask(k.ctx, id, fleet.Page{})
		require.NoError(k.t, err)
		if t.BatchesComplete != nil && *t.BatchesComplete == *t.BatchesTotal {
			return t
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
}

// appear makes cores report for the first time.
func (k *kit) appear(names ...string) {
	k.t.Helper()
	for _, n := range names {
		require.NoError(k.t, k.cloud.Appear(k.ctx, n))
	}
}

func (k *kit) template(name, version string) fleet.Template {
	k.t.Helper()
	n := fleet.NewTemplate{Name: name, Components: []fleet.TemplateComponent{{Key: "com.example.App", Version: version}}}
	t, err := k.CreateTemplate(k.ctx, n)
	if err != nil {
		t, err = k.UpdateTemplate(k.ctx, name, n)
	}
	require.NoError(k.t, err)
	return t
}

// deploy runs a deployment task to its end.
func (k *kit) deploy(name string, version int, to fleet.Targets) fleet.DeploymentTask {
	k.t.Helper()
	id, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: name, TemplateVersion: version, Targets: to}, "")
	require.NoError(k.t, err)
	return k.await(id)
}

// await waits for the end of a deployment task.
func (k *kit) await(id string) fleet.DeploymentTask {
	k.t.Helper()
	for {
		list, _, err := k.DeploymentTasks(k.ctx, fleet.Page{}) // without the items: many are polled for long
		require.NoError(k.t, err)
		for _, t := range list {
			final := t.Status == fleet.TaskFailure || t.Status == fleet.TaskSuccess
			if t.ID == id && final && (t.BatchesTotal == nil || *t.BatchesComplete == *t.BatchesTotal) {
				out, err := k.DeploymentTask(k.ctx, id, fleet.Page{})
				require.NoError(k.t, err)
				return out
			}
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
}

// to is the targets that name things.
func to(names ...string) fleet.Targets { return targets(map[string][]string{"thingNames": names}) }

func targets(members map[string][]string) fleet.Targets {
	raw, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	t, err := fleet.ParseTargets(raw)
	if err != nil {
		panic(err)
	}
	return t
}

// next is the job that waits first on the core.
func (k *kit) next(core string) string {
	k.t.Helper()
	list, err := k.cloud.Jobs.Pending(k.ctx, core)
	require.NoError(k.t, err)
	require.NotEmpty(k.t, list)
	return list[0].JobID
}

// finish makes the core end its next job.
func (k *kit) finish(core, status string) {
	k.t.Helper()
	require.NoError(k.t, k.cloud.Finish(k.ctx, core, k.next(core), status))
	synctest.Wait()
}

func (k *kit) core(name string) fleet.Core {
	k.t.Helper()
	c, err := k.Core(k.ctx, name)
	require.NoError(k.t, err)
	return c.Core
}

func (k *kit) object(key string) []byte {
	k.t.Helper()
	r, info, err := k.objects.Open(k.ctx, key)
	require.NoError(k.t, err)
	assert.Equal(k.t, "text/plain", info.ContentType)
	b, err := io.ReadAll(r)
	require.NoError(k.t, err)
	return b
}

// unzip returns the names of an archive in order, and its contents.
func (k *kit) unzip(b []byte) (names []string, files map[string][]byte) {
	k.t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	require.NoError(k.t, err)
	files = map[string][]byte{}
	for _, f := range z.File {
		names = append(names, f.Name)
		r, err := f.Open()
		require.NoError(k.t, err)
		files[f.Name], err = io.ReadAll(r)
		require.NoError(k.t, err)
	}
	return names, files
}
