package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/standin"
)

const waitLimit = 3 * time.Minute

// TestMain lets the test binary be ggfleet-sim, so that signals meet a real
// process.
func TestMain(m *testing.M) {
	if os.Getenv("GGFLEET_SIM_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

const component = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"a","ComponentVersion":"1.0.0",
	"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"},"Artifacts":[]}]}`

// install writes a core's files: in dir/config/config.yaml the MANUAL_INSTALL
// form, with the port once as a number and once as text.
func install(t *testing.T, cloud *standin.Cloud, dir, thing, config string) {
	t.Helper()
	cert := cloud.Thing(t, thing)
	writeIdentity(t, filepath.Join(dir, "certs"), cert, cloud.RootPEM())
	host, mqttPort, err := net.SplitHostPort(cloud.MQTT)
	require.NoError(t, err)
	_, planePort, err := net.SplitHostPort(cloud.HTTPS)
	require.NoError(t, err)
	text := fmt.Sprintf(`---
system:
  certificateFilePath: %[1]s/certs/cert.pem
  privateKeyPath: %[1]s/certs/private.key
  rootCaPath: %[1]s/certs/root.pem
  rootpath: %[1]s
  thingName: %[2]s
services:
  aws.greengrass.Nucleus:
    componentType: NUCLEUS
    version: 2.4.0
    configuration:
      awsRegion: us-east-1
      iotRoleAlias: alias
      iotDataEndpoint: %[3]s
      iotCredEndpoint: %[4]s
      mqtt:
        port: %[5]s
      greengrassDataPlanePort: "%[6]s"
`, dir, thing, host, cloud.HTTPS, mqttPort, planePort)
	path := filepath.Join(dir, config)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func writeIdentity(t *testing.T, dir string, cert tls.Certificate, root []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	signer, ok := cert.PrivateKey.(crypto.Signer)
	require.True(t, ok)
	key, err := pki.MarshalKey(signer)
	require.NoError(t, err)
	for name, b := range map[string][]byte{"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), "private.key": key, "root.pem": root} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
}

func deploy(cloud *standin.Cloud, thing string) {
	cloud.Deploy(names.TargetThing, thing, protocol.DeploymentDocument{Components: map[string]protocol.DocumentComponent{
		"a": {Version: "1.0.0", ConfigurationUpdate: &protocol.DocumentConfiguration{Merge: json.RawMessage(`{"level":"debug"}`)}},
	}})
}

func TestAFleetReportsItsDeploymentsAndEnds(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, component, nil)
	dir := t.TempDir()
	const cores = 20
	for i := range cores {
		name := fmt.Sprintf("core-%02d", i)
		install(t, cloud, filepath.Join(dir, name), name, "installerConfig.yml")
		deploy(cloud, name)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	require.NoError(t, command(ctx, []string{"fleet", "--dir", dir, "--deployments", "1", "--rate", "0", "--progress", "0", "--log-level", "error", "-o", "json"}, &out, os.Stderr))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got), out.String())
	for key, want := range map[string]float64{"cores": cores, "ready": cores, "succeeded": cores, "reported": cores, "failed": 0, "refused": 0, "connected": 0} {
		assert.InDelta(t, want, got[key], 0, key)
	}
}

func TestANucleusKeepsItsStateOverARestartAndEndsWellOnSIGTERM(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, component, nil)
	root := t.TempDir()
	install(t, cloud, root, "core-1", "config/config.yaml")

	stop := start(t, root)
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(root, "state/ready")); return err == nil }, waitLimit, 5*time.Millisecond)
	deploy(cloud, "core-1")
	require.Eventually(t, func() bool { return len(cloud.Updates("core-1")) == 2 }, waitLimit, 5*time.Millisecond)
	stop()

	b, err := os.ReadFile(filepath.Join(root, "state/components.json"))
	require.NoError(t, err)
	state, err := nucleus.ParseState(b)
	require.NoError(t, err)
	assert.Equal(t, []protocol.LocalComponent{{Name: "a", Version: "1.0.0", State: "RUNNING"}}, state.Components)
	b, err = os.ReadFile(filepath.Join(root, "config/effectiveConfig.yaml"))
	require.NoError(t, err)
	assert.Contains(t, string(b), "level: debug")

	before := len(cloud.Statuses("core-1"))
	stop = start(t, root)
	require.Eventually(t, func() bool { return len(cloud.Statuses("core-1")) > before }, waitLimit, 5*time.Millisecond)
	stop()
	launch := cloud.Statuses("core-1")[before]
	assert.Equal(t, protocol.TriggerNucleusLaunch, launch.Trigger)
	assert.Equal(t, "2.4.0", launch.GGCVersion, "the configured version")
	assert.Equal(t, cloud.Statuses("core-1")[before-1].SequenceNumber+1, launch.SequenceNumber)
	assert.Len(t, launch.Components, 2)
}

// start runs the program as a process; the returned function stops it with
// SIGTERM and wants exit code 0.
func start(t *testing.T, root string) func() {
	t.Helper()
	cmd := exec.Command(os.Args[0], "nucleus", "--root", root)
	cmd.Env = append(os.Environ(), "GGFLEET_SIM_TEST_MAIN=1")
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	end := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		assert.NoError(t, cmd.Wait(), log.String())
	})
	t.Cleanup(end)
	return end
}

func TestAPackIsTheSameTwiceAndCanBeUnpacked(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, bytes.Repeat([]byte("program"), 1000), 0o755))
	var first, second bytes.Buffer
	file := filepath.Join(dir, "one.tar.gz")
	require.NoError(t, command(t.Context(), []string{"pack", "--out", file, "--version", "2.6.1", "--program", program}, &first, os.Stderr))
	require.NoError(t, command(t.Context(), []string{"pack", "--out", filepath.Join(dir, "two.tar.gz"), "--version", "2.6.1", "--program", program}, &second, os.Stderr))
	require.Equal(t, first.String(), second.String())

	f, err := os.Open(file)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer func() { _ = root.Close() }()
	require.NoError(t, root.Mkdir("unpacked", 0o755))
	require.NoError(t, nucleus.Unpack(t.Context(), f, "tar.gz", first.String()[:64], root, "unpacked", nucleus.Limits{}))
	b, err := os.ReadFile(filepath.Join(dir, "unpacked/distribution.json"))
	require.NoError(t, err)
	assert.JSONEq(t, `{"name":"ggfleet.SimulatedNucleus","version":"2.6.1","runtime":"simulated","entrypoint":"bin/ggfleet-sim","args":["nucleus","--root","{root}"],"stateFile":"state/components.json","readyFile":"state/ready"}`, string(b))
	info, err := os.Stat(filepath.Join(dir, "unpacked/bin/ggfleet-sim"))
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&0o100)
}

func TestBadUseIsToldAsSuch(t *testing.T) {
	tests := map[string][]string{
		"an unknown command":        {"fly"},
		"an unknown flag":           {"fleet", "--speed", "9"},
		"no folder":                 {"fleet"},
		"an unknown form":           {"fleet", "--dir", "x", "-o", "xml"},
		"no root":                   {"nucleus"},
		"an argument too many":      {"nucleus", "--root", "x", "y"},
		"an unknown way to fail":    {"nucleus", "--root", "x", "--fail", "a=explodes"},
		"no version":                {"pack", "--out", "x"},
		"a version that is no name": {"pack", "--out", filepath.Join(t.TempDir(), "x"), "--version", "../1"},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			require.ErrorIs(t, command(t.Context(), args, &out, &errOut), fault.Invalid)
		})
	}
	var out bytes.Buffer
	require.NoError(t, command(t.Context(), []string{"help"}, &out, &out))
	assert.Contains(t, out.String(), "ggfleet-sim nucleus --root")
}
