//go:build linux

package app_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// versionVar says which version this test binary is as an agent.
const versionVar = "AGENT_TEST_VERSION"

// asRelease makes the agent the packaged 1.0.0, or the release that the program
// which started this process says.
func asRelease(cfg *app.Config) {
	cfg.Version = "1.0.0"
	if v := os.Getenv(versionVar); v != "" {
		cfg.Version = v
		_ = os.Unsetenv(versionVar)
	}
	cfg.UpdateTrial, cfg.UpdateSettle, cfg.UpdateRetry = 15*time.Second, 300*time.Millisecond, 200*time.Millisecond
}

// packagedAgain is what the program does when the agent hands over.
func packagedAgain(err error) {
	if errors.Is(err, app.ErrHandOver) {
		_ = syscall.Exec(os.Args[0], os.Args, os.Environ())
	}
}

// offerRelease offers a program that becomes this test binary as a version, after
// what else it does.
func offerRelease(t *testing.T, c *agenttest.Cloud, private []byte, version, also string) string {
	t.Helper()
	program := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = version ] && echo ggfleet-agent %s && exit\n%s\n%s=%s exec %s\n", version, also, versionVar, version, os.Args[0])
	sig, err := signed.Sign(private, "", strings.NewReader(program), signed.Statement{Version: version, Platform: runtime.GOOS + "/" + runtime.GOARCH})
	require.NoError(t, err)
	h := sha256.Sum256([]byte(program))
	digest := hex.EncodeToString(h[:])
	c.Change(func(s *agenttest.State) {
		s.Archives[digest] = []byte(program)
		s.Assignment.Agent = &protocol.AgentRelease{
			Version: version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Digest: digest, Size: int64(len(program)), Signature: string(sig),
		}
	})
	return digest
}

// updating is a device that takes release 1.1.0 and refuses 1.2.0, which does not
// hear of its assignment in its first round and ends at every start of its second.
func updating(t *testing.T, archive []byte, kill string) *agent {
	t.Helper()
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config, s.Deaf = []byte(document), true, "1.2.0" })
	c.Offer("1.0.0", archive)
	a := startAgent(t, c, kill)
	key, private, err := signed.NewKey("")
	require.NoError(t, err)
	_, err = selfupdate.AddKey(a.root, key.String())
	require.NoError(t, err)
	a.waitVersion(c, "1.0.0")
	nucleus := nuclei(a.root)
	look := func() selfupdate.Record {
		r, _ := selfupdate.Read(a.root)
		return r
	}
	good := offerRelease(t, c, private, "1.1.0", ":")
	a.waitFor("1.1.0 is the agent", func() bool {
		r := look()
		return r.Trial == nil && r.Committed != nil && r.Committed.Digest == good
	})
	bad := offerRelease(t, c, private, "1.2.0", `[ -e "$0.ran" ] && exit 1; touch "$0.ran"`)
	a.waitFor("1.2.0 is rejected and 1.1.0 has settled", func() bool {
		r := look()
		return r.Trial == nil && r.Committed != nil && r.Committed.Digest == good && r.Committed.Starts == 0 &&
			len(r.Rejected) == 1 && r.Rejected[0].Digest == bad && len(slots(a.root)) == 1
	})
	held := 0 // the last step may have killed it: the one after is to stop the nucleus
	a.waitFor("an agent runs", func() bool {
		dir, err := localstate.Open(a.root, nil)
		if err == nil {
			_ = dir.Close()
		}
		if held++; !errors.Is(err, fault.Exists) {
			held = 0
		}
		return held > 10
	})
	if kill != "" {
		assert.FileExists(t, a.mark, "the agent was killed")
	}
	assert.Equal(t, nucleus, nuclei(a.root), "the nucleus ran on through all of it")
	return a
}

func slots(root string) []os.DirEntry {
	list, _ := os.ReadDir(filepath.Join(root, "agent", "releases"))
	return list
}

func TestKilledAtAnyStepOfItsUpdateTheAgentEndsTheSame(t *testing.T) {
	archive := archives(t)[0]
	whole := updating(t, archive, "")
	b, err := os.ReadFile(whole.hits)
	require.NoError(t, err)
	for _, p := range localstate.UpdatePoints() {
		require.Contains(t, string(b), string(p)+"\n", "the story never comes to %s", p)
	}
	eachKill(t, localstate.UpdatePoints(), func(t *testing.T, kill string) { updating(t, archive, kill) })
}
