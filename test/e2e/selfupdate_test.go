package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// buildAgent compiles the real agent as a version, with a trial of seconds.
func buildAgent(t *testing.T, dir, version string) string {
	t.Helper()
	return buildAgentWith(t, dir, version, "500ms 20s 2s 2s")
}

// buildAgentWith compiles it with other times (agent/app.buildTimes).
func buildAgentWith(t *testing.T, dir, version, times string) string {
	t.Helper()
	root, err := world.Root()
	require.NoError(t, err)
	out := filepath.Join(dir, fmt.Sprintf("ggfleet-agent_%s_%s_%s", version, runtime.GOOS, runtime.GOARCH))
	const name = "github.com/ggfleet/ggfleet/"
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-tags=nomsgpack", "-o", out,
		"-ldflags", "-s -w -X "+name+"shared/buildinfo.Version="+version+" -X '"+name+"agent/app.buildTimes="+times+"'", "./cmd/ggfleet-agent")
	cmd.Dir = filepath.Join(root, "agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}

// keeper starts a program again whenever it ends, as a service manager does.
type keeper struct {
	mu      sync.Mutex
	cmd     *exec.Cmd
	started int
}

func keep(t *testing.T, program, root, log string) *keeper {
	t.Helper()
	k := &keeper{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	out, err := os.Create(log)
	require.NoError(t, err)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cmd := exec.Command(program, "run", "--root", root)
			cmd.Stdout, cmd.Stderr = out, out
			k.mu.Lock()
			err := cmd.Start()
			k.cmd, k.started = cmd, k.started+1
			k.mu.Unlock()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
			_ = cmd.Wait()
			stop()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = out.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("the end of the agent's log:\n%s", b[max(0, len(b)-8<<10):])
		}
	})
	return k
}

func (k *keeper) kill9() {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.cmd.Process.Kill()
}

// updated is the fleet API's view of a release.
type updated struct {
	State, Reason string
	Running       int
	Failures      int
	Updates       map[string]int
}

func TestTheAgentUpdatesItselfAndGoesBackFromWhatDoesNotWork(t *testing.T) {
	const core = "press-07"
	dir := t.TempDir()
	w := world.Start(t, world.Options{})
	bin, err := world.Binary()
	require.NoError(t, err)
	cli := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append(args, "--server", w.API, "--token", w.Token)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	offline := func(args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
	key := filepath.Join(dir, "key")
	offline("agent-release", "keygen", key)
	release := func(version, file string, activate ...string) {
		t.Helper()
		offline("agent-release", "sign", version, file, "--key", key)
		cli("agent-release", "add", version, file, file+".minisig")
		cli(append([]string{"agent-release", "activate", version, "--spread", "0s", "--max-failures", "1"}, activate...)...)
	}
	see := func(version string) (u updated) {
		t.Helper()
		w.Call(t, http.MethodGet, "/agentReleases/"+version, nil, &u)
		return u
	}

	offerNucleus(t, w)
	createCore(t, w, core, "default")
	packaged := buildAgent(t, dir, "1.0.0")
	root := filepath.Join(dir, "root")
	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": core}, &activation)
	agent := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), packaged, append(args, "--root", root)...)
		cmd.Stdin = strings.NewReader(activation.Enrollment)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	agent("enroll", "-")
	agent("update-key", "add", key+".pub")
	k := keep(t, packaged, root, filepath.Join(dir, "agent.log"))
	connected := func(version string) func() string {
		return func() string {
			if s := show(t, w, core); s.Agent == nil || s.Agent.Version != version || !s.Agent.Connected {
				return fmt.Sprintf("the agent is not %s and connected: %+v", version, s.Agent)
			}
			return ""
		}
	}
	world.Eventually(t, connected("1.0.0"))
	var nucleus string
	world.Eventually(t, func() string {
		if s := show(t, w, core); s.Agent.Nucleus.State != "running" {
			return fmt.Sprintf("the nucleus is %+v", s.Agent.Nucleus)
		}
		if nucleus = nucleusPID.FindString(agent("status")); nucleus == "" {
			return "the nucleus has no process"
		}
		return ""
	})

	release("1.1.0", buildAgent(t, dir, "1.1.0"))
	world.Eventually(t, func() string {
		if u := see("1.1.0"); u.Running != 1 || u.Updates["committed"] != 1 {
			return fmt.Sprintf("release 1.1.0: %+v", u)
		}
		return ""
	})
	assert.Contains(t, agent("status"), "agent:    1.1.0 (release; packaged is 1.0.0)")
	assert.Equal(t, nucleus, nucleusPID.FindString(agent("status")), "the nucleus has not noticed")
	k.kill9()
	world.Eventually(t, connected("1.1.0"))

	// A release that says its version and then ends at every start.
	broken := filepath.Join(dir, fmt.Sprintf("ggfleet-agent_1.2.0_%s_%s", runtime.GOOS, runtime.GOARCH))
	require.NoError(t, os.WriteFile(broken, []byte("#!/bin/sh\n[ \"$1\" = version ] && echo ggfleet-agent 1.2.0 && exit\necho broken >&2\nexit 1\n"), 0o700))
	release("1.2.0", broken)
	world.Eventually(t, func() string {
		if u := see("1.2.0"); u.State != "stopped" || !strings.Contains(u.Reason, "three times") {
			return fmt.Sprintf("release 1.2.0: %+v", u)
		}
		return ""
	})
	world.Eventually(t, func() string {
		if u := see("1.1.0"); u.Running != 1 {
			return fmt.Sprintf("release 1.1.0 is not back: %+v", u)
		}
		return connected("1.1.0")()
	})
	assert.Equal(t, nucleus, nucleusPID.FindString(agent("status")))

	// One that works follows.
	release("1.3.0", buildAgent(t, dir, "1.3.0"))
	world.Eventually(t, func() string {
		if u := see("1.3.0"); u.Running != 1 || u.Updates["committed"] != 1 {
			return fmt.Sprintf("release 1.3.0: %+v", u)
		}
		return ""
	})
	world.Eventually(t, func() string { // they are removed once the agent is sure
		slots, err := os.ReadDir(filepath.Join(root, "agent", "releases"))
		if err != nil || len(slots) != 1 {
			return fmt.Sprintf("other releases are left: %v %v", slots, err)
		}
		return ""
	})
	assert.Equal(t, nucleus, nucleusPID.FindString(agent("status")))

	// The package is upgraded by hand, to a later version: it wins.
	newer := buildAgent(t, dir, "1.4.0")
	require.NoError(t, os.Rename(newer, packaged))
	k.kill9()
	world.Eventually(t, connected("1.4.0"))
	assert.Contains(t, agent("status"), "agent:    1.4.0 (packaged)")
	assert.True(t, slices.Contains(strings.Fields(cli("agent-release", "list")), "stopped"))

	// Technicians fetch the files without a certificate.
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.Roots}}}
	res, err := client.Get("https://" + w.Device + "/install/1.3.0/ggfleet-agent_1.3.0_" + runtime.GOOS + "_" + runtime.GOARCH + ".minisig")
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusOK, res.StatusCode)
}
