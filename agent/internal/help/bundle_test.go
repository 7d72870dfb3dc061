package help_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/help"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// entries unpacks a bundle.
func entries(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		out[f.Name] = string(b)
	}
	return out
}

func bundleOf(t *testing.T, h *help.Host) ([]byte, map[string]string) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, h.Bundle(t.Context(), &b))
	require.LessOrEqual(t, b.Len(), protocol.MaxHelpContent)
	return b.Bytes(), entries(t, b.Bytes())
}

// secretsOnly gives each planted secret, in pieces that stand in one line.
func secretsOnly() (out []string) {
	for _, p := range planted {
		out = append(out, strings.Split(p.secret, "\n")...)
	}
	return out
}

func TestABundleHoldsNoSecretWhereverOneIsPlanted(t *testing.T) {
	for _, runtime := range []string{help.Classic, help.Lite, "simulated"} {
		t.Run(runtime, func(t *testing.T) {
			root, etc := t.TempDir(), t.TempDir()
			var everything strings.Builder
			for _, p := range planted {
				everything.WriteString("2026-05-01T09:30:00Z [INFO] " + p.text + "\n")
			}
			all := everything.String()
			// Every file that the agent and a nucleus have, and some that they have not.
			for _, name := range []string{
				"agent/agent.key", "agent/identity.json", "agent/private.key", "agent/nucleus.json", "agent/install.json", "private.key", "certs.zip",
				"config/effectiveConfig.yaml", "config/config.yaml", "config/config.tlog", "work/com.example.X/secrets.txt", ".env",
				"logs/nucleus.log", "logs/nucleus.log.1", "logs/greengrass.log", "logs/com.example.X.log", "logs/com.example.X_2026_05_01_09_0.log", "logs/secrets.txt", "logs/agent.log",
			} {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
				write(t, filepath.Join(root, name), all)
				old(t, filepath.Join(root, name), time.Minute)
			}
			secret := func(i int) string { return secretsOnly()[i%len(secretsOnly())] }
			config := fmt.Sprintf(`system: {thingName: gw-1, rootpath: %s, privateKeyPath: "pkcs11:pin-value=planted4711", certificateFilePath: /c.pem, other: %q}
services:
  aws.greengrass.Nucleus:
    version: 2.14.0
    componentType: NUCLEUS
    configuration:
      awsRegion: us-east-1
      iotDataEndpoint: data.example
      mqtt: {port: 8883, username: %q}
      networkProxy: {proxy: {url: "http://user:plantedURLpw@p:3128", username: %q, password: %q}, noProxyAddresses: a.example}
      jvmOptions: -Dsecret=%q
  com.example.X:
    version: 1.0.0
    configuration: {version: %q, apiKey: %q, nested: {level: %q}}
    setenv: {DB_PASSWORD: %q}
%q: {version: %q}
`, root, secret(0), secret(1), secret(2), secret(3), secret(4), secret(5), secret(6), secret(7), secret(8), secret(9), secret(10))
			for _, name := range []string{filepath.Join(root, "config/effectiveConfig.yaml"), filepath.Join(root, "config/config.yaml"), filepath.Join(etc, "config.yaml")} {
				write(t, name, config)
			}
			t.Setenv("PLANTED_ENVIRONMENT", "plantedEnvironment")
			t.Setenv("HTTPS_PROXY", "http://user:plantedURLpw@proxy.example:3128")
			h, err := help.NewHost(help.HostConfig{
				Root: root, Etc: etc, Version: "1.0.0", Nucleus: func() help.Nucleus { return help.Nucleus{Runtime: runtime, Root: root, Text: all} },
				AgentLog: help.KeptLog(filepath.Join(root, "logs")),
				Status:   func(w io.Writer) error { _, err := io.WriteString(w, "core: gw-1\n"+all); return err },
				Doctor:   func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "well\n"+all); return err },
			})
			require.NoError(t, err)
			raw, files := bundleOf(t, h)
			looked := 0
			for _, s := range append(secretsOnly(), "plantedEnvironment") {
				require.NotEmpty(t, s)
				assert.NotContains(t, string(raw), s, "in the packed bytes")
				for name, text := range files {
					looked++
					assert.False(t, strings.Contains(text, s) || strings.Contains(name, s), "%s holds %s", name, s)
				}
			}
			assert.Greater(t, looked, 200)
			assert.Contains(t, files["status.txt"], "core: gw-1")
			assert.Contains(t, files["diagnose/doctor.txt"], "well")
			assert.Contains(t, files["diagnose/network.txt"], "http://[removed]@proxy.example:3128")
			assert.Contains(t, files["diagnose/processes.txt"], "NAME")
			assert.Contains(t, files["manifest.txt"], "agent 1.0.0")
			assert.Contains(t, files["logs/agent.log"], "2026-05-01T09:30:00Z [INFO] ")
			switch runtime {
			case help.Lite:
				assert.Contains(t, files["config/lite.txt"], "services.aws.greengrass.Nucleus.configuration.mqtt.port: 8883")
				assert.NotContains(t, files, "logs/components/com.example.X.log", "it is in the journal")
			case help.Classic:
				assert.Contains(t, files["config/effective.txt"], "services.com.example.X.version: 1.0.0\n")
				fallthrough
			default:
				assert.Contains(t, files["logs/nucleus.log"], "[INFO]")
				assert.Contains(t, files["logs/components/com.example.X.log"], "[INFO]")
			}
			for name := range files {
				assert.Regexp(t, `^(manifest\.txt|status\.txt|units\.txt|diagnose/[a-z]+\.txt|config/[a-z]+\.txt|logs/(agent|nucleus|components/com\.example\.X)\.log)$`, name, "nothing but what is on the list")
			}
		})
	}
}

func TestABundleOfABrokenDeviceSaysWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	h, err := help.NewHost(help.HostConfig{
		Root: root, Nucleus: func() help.Nucleus { return help.Nucleus{Runtime: help.Classic, Root: filepath.Join(root, "none")} },
		Status: func(io.Writer) error { return fault.New(fault.Denied, "the disk does not answer\nsecond line") },
	})
	require.NoError(t, err)
	_, files := bundleOf(t, h)
	for _, want := range []string{"status.txt: left out: the disk does not answer", "diagnose/doctor.txt: left out: this agent has no diagnostic doctor", "logs/agent.log: left out", "config/effective.txt: left out"} {
		assert.Contains(t, files["manifest.txt"], want)
	}
}

func TestABundleOfHugeLogsIsBounded(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "logs"), 0o700))
	line := strings.Repeat("a word of many, ", 500) + "\n"
	text := strings.Repeat(line, 30) // 240 KB
	for i := range 60 {
		write(t, filepath.Join(root, "logs", fmt.Sprintf("c%02d.log", i)), text)
	}
	h, err := help.NewHost(help.HostConfig{Root: root, Nucleus: func() help.Nucleus { return help.Nucleus{Runtime: "simulated", Root: root} }})
	require.NoError(t, err)
	h.SetRoom(1 << 20)
	raw, files := bundleOf(t, h)
	sum := 0
	for _, f := range files {
		sum += len(f)
	}
	assert.LessOrEqual(t, sum, 1<<20+64<<10)
	assert.Less(t, len(raw), 1<<20)
	assert.Contains(t, files["manifest.txt"], "cut, the bundle is full")

	stop := fmt.Errorf("the line is broken")
	assert.ErrorIs(t, h.Bundle(t.Context(), failing{stop}), stop, "what cannot be sent ends it")
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestNamedDiagnostics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	root := t.TempDir()
	write(t, filepath.Join(root, "logs"), "")
	require.NoError(t, os.Remove(filepath.Join(root, "logs")))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "versions", "v1"), 0o700))
	write(t, filepath.Join(root, "versions", "v1", "big"), strings.Repeat("x", 3<<20))
	h, err := help.NewHost(help.HostConfig{
		Root: root, Nucleus: func() help.Nucleus { return help.Nucleus{Runtime: "simulated", Root: root, Text: "version\t1.0.0"} },
		Endpoints: func() []help.Endpoint {
			return []help.Endpoint{{Name: "good", Address: l.Addr().String()}, {Name: "bad", Address: closed.Addr().String(), TLS: true}, {Name: "odd", Address: "nowhere"}}
		},
		Clock: func() (time.Duration, bool) { return 90 * time.Second, true },
	})
	require.NoError(t, err)
	for name, want := range map[string][]string{
		"network":   {"good connect to port", "bad connect to port", "FAILED", "odd nowhere is no address"},
		"disk":      {"file system of " + root, filepath.Join(root, "versions", "v1") + " 3072 KiB", "file system of / "},
		"processes": {"processes; by memory", "STATE NAME"},
		"clock":     {"ahead of the control plane by 1m30s", "zone"},
		"nucleus":   {"runtime simulated", "version 1.0.0"},
	} {
		var b bytes.Buffer
		require.NoError(t, h.Diagnose(t.Context(), name, &b), name)
		for _, w := range want {
			assert.Contains(t, strings.Join(strings.Fields(b.String()), " "), w)
		}
	}
	for _, none := range []string{"doctor", "shell", "", "../network"} {
		require.ErrorIs(t, h.Diagnose(t.Context(), none, io.Discard), fault.Unsupported)
	}
}

func TestWhatIsRestartedAndHow(t *testing.T) {
	bin, root := t.TempDir(), t.TempDir()
	script := func(name, text string) {
		require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\necho \"${0##*/} $@\" >> "+bin+"/calls\n"+text), 0o700))
	}
	t.Setenv("PATH", bin)
	n := help.Nucleus{Runtime: help.Lite, Root: root}
	restarted := 0
	h, err := help.NewHost(help.HostConfig{Root: root, Nucleus: func() help.Nucleus { return n }, Restart: func(context.Context) error { restarted++; return nil }})
	require.NoError(t, err)
	require.NoError(t, h.Restart(t.Context(), protocol.HelpOfNucleus, ""))
	assert.Equal(t, 1, restarted)
	require.ErrorIs(t, h.Restart(t.Context(), protocol.HelpOfComponent, "a.B"), fault.Unsupported, "no systemctl")
	script(bin+"/systemctl", `[ "$1" = show ] && echo loaded; true`)
	require.NoError(t, h.Restart(t.Context(), protocol.HelpOfComponent, "a.B"))
	script(bin+"/systemctl", `[ "$1" = show ] && echo not-found; true`)
	require.ErrorIs(t, h.Restart(t.Context(), protocol.HelpOfComponent, "a.C"), fault.NotFound)
	script(bin+"/systemctl", `[ "$1" = show ] && echo loaded && exit 0; echo "it broke: token=abcdefgh" >&2; exit 1`)
	err = h.Restart(t.Context(), protocol.HelpOfComponent, "a.B")
	require.ErrorContains(t, err, "it broke: token=[removed]")

	n.Runtime = help.Classic
	require.ErrorIs(t, h.Restart(t.Context(), protocol.HelpOfComponent, "a.B"), fault.Unsupported)
	require.NoError(t, os.Mkdir(root+"/bin", 0o700))
	script(root+"/bin/greengrass-cli", "")
	require.NoError(t, h.Restart(t.Context(), protocol.HelpOfComponent, "a.B"))
	n.Runtime = "simulated"
	require.ErrorIs(t, h.Restart(t.Context(), protocol.HelpOfComponent, "a.B"), fault.Unsupported)
	n.Runtime = ""
	require.ErrorIs(t, h.Restart(t.Context(), protocol.HelpOfNucleus, ""), fault.NotFound)
	calls, err := os.ReadFile(bin + "/calls")
	require.NoError(t, err)
	assert.Contains(t, string(calls), "systemctl restart ggl.a.B.service\n")
	assert.Contains(t, string(calls), "greengrass-cli component restart --names=a.B\n")
	assert.NotContains(t, string(calls), "restart ggl.a.C")
}
