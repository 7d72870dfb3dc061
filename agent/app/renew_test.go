//go:build linux

package app_test

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// renewed waits until agent and core have other certificates than at first, and
// nothing of the renewals is left.
func renewed(t *testing.T, c *agenttest.Cloud, root string) {
	t.Helper()
	var id identity.Identity
	require.Eventually(t, func() bool {
		id = identity.Identity{}
		b, err := os.ReadFile(filepath.Join(root, "agent", "identity.json"))
		if err != nil || json.Unmarshal(b, &id) != nil || id.KeyName == "key" || id.KeyName == "" || id.Next != nil || id.Old != nil {
			return false
		}
		done := false
		c.Change(func(s *agenttest.State) {
			done = s.Calls[protocol.PathDeviceRenewalConfirm] > 0 && len(s.Agents) == 1 && len(s.Cores) == 1
		})
		_, err = os.Stat(filepath.Join(root, "agent", "device-renewal.json"))
		return done && os.IsNotExist(err)
	}, patience, tick, "both are renewed")
	c.Change(func(s *agenttest.State) {
		for _, cert := range s.Agents {
			assert.Equal(t, cert, id.CertificatePEM, "the agent uses the one that is left")
		}
		for _, cert := range s.Cores {
			key, err := os.ReadFile(filepath.Join(root, "private.key"))
			assert.NoError(t, err)
			file, err := os.ReadFile(filepath.Join(root, "cert.pem"))
			assert.NoError(t, err)
			assert.Equal(t, cert, string(file))
			_, err = tls.X509KeyPair(file, key)
			assert.NoError(t, err)
		}
	})
	keys, err := filepath.Glob(filepath.Join(root, "agent", "key*.pem"))
	require.NoError(t, err)
	assert.Len(t, keys, 1, "no key is left behind")
}

func aged(t *testing.T) *agenttest.Cloud {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config, s.Aged = []byte(document), true, true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	return c
}

func TestCertificatesAreRenewedWhileAllGoesOn(t *testing.T) {
	c := aged(t)
	c.Change(func(s *agenttest.State) {
		for _, p := range []string{protocol.PathCertificate, protocol.PathCertificateConfirm, protocol.PathDeviceRenewal, protocol.PathDeviceRenewalConfirm} {
			s.Lose[p] = 1
		}
	})
	cfg := fast(t.TempDir())
	in(t, c, cfg)
	renewed(t, c, cfg.Root)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	was := len(c.Reports())
	c.DropConnections()
	require.Eventually(t, func() bool { return len(c.Reports()) > was }, patience, tick, "it goes on reporting with the new one")
}

func TestKilledAtAnyStepOfARenewalTheDeviceEndsTheSame(t *testing.T) {
	eachKill(t, localstate.RenewPoints(), func(t *testing.T, kill string) {
		c := aged(t)
		a := startAgent(t, c, kill)
		renewed(t, c, a.root)
		a.waitFor("the agent at work again", func() bool {
			killed, err := os.Stat(a.mark)
			return err == nil && c.LastNucleus().State == protocol.NucleusRunning && c.LastNucleus().Time.After(killed.ModTime())
		})
		assert.FileExists(t, a.mark, "the agent was killed")
	})
}

func TestAnotherAgentWithThisIdentityIsShown(t *testing.T) {
	c := agenttest.New(t, core)
	cfg := fast(t.TempDir())
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool { return len(c.Clients()) > 0 }, patience, tick)
	stop()
	was := len(c.Clients())
	copied := fast(t.TempDir())
	require.NoError(t, os.CopyFS(filepath.Join(copied.Root, "agent"), os.DirFS(filepath.Join(cfg.Root, "agent"))))
	in(t, c, cfg)
	require.Eventually(t, func() bool { return len(c.Clients()) > was }, patience, tick)
	was = len(c.Clients())
	in(t, c, copied)
	file := filepath.Join(cfg.Root, "agent", "conflict.json")
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, patience, tick)
	assert.Never(t, func() bool { return len(c.Clients()) > was+1 }, 300*time.Millisecond, tick, "they do not fight")
}
