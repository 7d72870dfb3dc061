package reconcile_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// found puts a classic nucleus on the host as AWS's instructions do, for thing.
func (l *life) found(thing, version string) {
	l.t.Helper()
	for name, text := range map[string]string{
		"/greengrass/v2/alts/init/distro/conf/recipe.yaml": "ComponentName: aws.greengrass.Nucleus\nComponentVersion: " + version + "\n",
		"/greengrass/v2/config/config.tlog":                "x",
		"/greengrass/v2/config/effectiveConfig.yaml":       strings.ReplaceAll(strings.ReplaceAll(classicOf, "thingName: gw", "thingName: "+thing), "/greengrass/v2/cert.pem", "/etc/own/cert.pem"),
		"/etc/systemd/system/greengrass.service":           "[Service]\nExecStart=/bin/sh /greengrass/v2/alts/current/distro/bin/loader\n[Install]\nWantedBy=multi-user.target\n",
		"/etc/own/cert.pem":                                "its own",
	} {
		require.NoError(l.t, os.MkdirAll(filepath.Dir(l.m.Path(name)), 0o755))
		require.NoError(l.t, os.WriteFile(l.m.Path(name), []byte(text), 0o644))
	}
	require.NoError(l.t, os.Symlink("/greengrass/v2/alts/init", l.m.Path("/greengrass/v2/alts/current")))
	l.m.active["greengrass.service"] = true
}

func TestANucleusThatIsThereIsTakenOverAsItIs(t *testing.T) {
	l := newLife(t, classicOf, "")
	l.found("gw", "2.11.0")
	before := l.tree()
	l.cloud.assignment.Config = false // whoever set it up did so without us
	adopted := func(r reconcile.Record) bool {
		return r.Adopted != nil && r.Adopted.Version == "2.11.0" && r.Current == nil
	}
	l.until("adopted", adopted)
	assert.Zero(t, l.m.starts, "it runs and goes on")
	assert.Equal(t, protocol.NucleusRunning, l.said.Load().State)
	l.offer("classic", classicZip("2.11.0"), nucleus.FormatZip)
	l.until("left alone", adopted)
	now := l.tree()
	for name, was := range before {
		assert.Equal(t, was, now[name], name)
	}

	t.Run("a version that fails leaves it as it was", func(t *testing.T) {
		l.m.does["2.12.0"] = dies
		l.offer("classic", classicZip("2.12.0"), nucleus.FormatZip)
		l.refused("2.12.0", "init")
		assert.True(t, adopted(l.record()))
		assert.True(t, l.m.active["greengrass.service"])
	})
	t.Run("one that works takes its place with its identity", func(t *testing.T) {
		l.offer("classic", classicZip("2.13.0"), nucleus.FormatZip)
		l.runs("2.13.0")
		b, err := os.ReadFile(l.m.Path("/greengrass/v2/config/effectiveConfig.yaml"))
		require.NoError(t, err)
		assert.Contains(t, string(b), "/etc/own/cert.pem")
		assert.NoFileExists(t, l.m.Path("/greengrass/v2/cert.pem"))
	})
	t.Run("and is gone back to by hand", func(t *testing.T) {
		l.agent(func(ctx context.Context, loop *reconcile.Loop) { assert.NoError(t, loop.Rollback(ctx)) })
		assert.True(t, adopted(l.record()))
		assert.Equal(t, "init", l.m.version())
		l.until("the version left is not installed again", adopted)
	})
	t.Run("when the agent's record is damaged it is found again", func(t *testing.T) {
		require.NoError(t, os.WriteFile(l.m.Path(agentRoot+"/agent/"+reconcile.RecordName), []byte("{"), 0o600))
		l.cloud.assignment.Nucleus = nil
		l.until("adopted", adopted)
	})
}

func TestTheNucleusOfAnotherCoreIsLeftAlone(t *testing.T) {
	l := newLife(t, classicOf, "")
	l.found("other", "2.11.0")
	before, _ := os.Readlink(l.m.Path("/greengrass/v2/alts/current"))
	l.until("nothing adopted", func(r reconcile.Record) bool { return r == reconcile.Record{} })
	after, _ := os.Readlink(l.m.Path("/greengrass/v2/alts/current"))
	assert.Equal(t, before, after)
	assert.Zero(t, l.m.starts)
}

func TestAVersionThatDoesNotProveItselfIsTakenBack(t *testing.T) {
	for does, says := range map[string]string{dies: "Job failed", crashes: "restarted", returns: "by itself"} {
		t.Run(does, func(t *testing.T) {
			l := newLife(t, classicOf, "")
			l.offer("classic", classicZip("2.12.0"), nucleus.FormatZip)
			l.runs("2.12.0")
			l.m.does["2.13.0"] = does
			l.offer("classic", classicZip("2.13.0"), nucleus.FormatZip)
			l.refused("2.13.0", "2.12.0")
			assert.Contains(t, l.record().Rejection.Why, says)
			assert.True(t, l.m.active["greengrass.service"])
			assert.Equal(t, "2.12.0", l.said.Load().Version)
		})
	}
}

func TestACrashLoopSoonAfterAnUpdateIsTakenBackAndALaterOneIsNot(t *testing.T) {
	l := newLife(t, classicOf, "")
	for _, v := range []string{"2.12.0", "2.13.0"} {
		l.offer("classic", classicZip(v), nucleus.FormatZip)
		l.runs(v)
	}
	require.True(t, l.record().Settling)
	require.Equal(t, "2.12.0", l.record().Previous.Version)
	l.m.mu.Lock()
	l.m.does["2.13.0"] = crashes
	l.m.mu.Unlock()
	l.until("gone back", func(r reconcile.Record) bool {
		return r.Current != nil && r.Current.Version == "2.12.0" && r.Rejection != nil
	})
	assert.Contains(t, l.record().Rejection.Why, "soon after it was installed")

	l.m.does["2.12.0"] = crashes // what is left is kept, whatever it does
	l.until("kept", func(r reconcile.Record) bool {
		return r.Current.Version == "2.12.0" && l.m.restarted() > 20
	})
	assert.Equal(t, protocol.NucleusFailed, l.said.Load().State)
	assert.Contains(t, l.said.Load().LastError, "restarted")
}

func TestADiskThatTakesNothingLeavesTheNucleusRunning(t *testing.T) {
	for name, errno := range map[string]error{"full": syscall.ENOSPC, "read-only": syscall.EROFS} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, classicOf, "")
			l.offer("classic", classicZip("2.12.0"), nucleus.FormatZip)
			l.runs("2.12.0")
			before := l.tree()
			starts := l.m.starts
			l.m.Change = func(what string, done bool) error {
				if !done && !strings.HasPrefix(what, "run systemctl") && !strings.HasPrefix(what, "remove") {
					return &os.PathError{Op: "write", Path: what, Err: errno}
				}
				return nil
			}
			l.offer("classic", classicZip("2.13.0"), nucleus.FormatZip)
			l.agent(func(ctx context.Context, loop *reconcile.Loop) {
				loop.Start(ctx)
				require.ErrorIs(t, loop.Pass(ctx), errno)
				assert.Eventually(t, func() bool { return strings.Contains(l.said.Load().LastError, errno.Error()) }, time.Minute, time.Millisecond, "it is told")
				again := loop.Pass(ctx)
				require.ErrorIs(t, again, fault.Exhausted, "not fetched again at once")
				assert.Equal(t, protocol.NucleusRunning, l.said.Load().State)

				// As soon as there is room, or what was read-only is not.
				more := reconcile.Room{Bytes: 1 << 20, Inodes: 1000}
				l.room.Bytes += 32 << 10
				require.ErrorIs(t, loop.Pass(ctx), fault.Exhausted, "a little more is not enough")
				l.room = more
				require.ErrorIs(t, loop.Pass(ctx), errno, "tried")
				require.ErrorIs(t, loop.Pass(ctx), fault.Exhausted, "and was not enough")
				l.room = reconcile.Room{}
				require.ErrorIs(t, loop.Pass(ctx), fault.Exhausted)
				l.room = more
				require.ErrorIs(t, loop.Pass(ctx), fault.Exhausted, "room that was not enough before is not")
				l.room.Bytes *= 2
				require.ErrorIs(t, loop.Pass(ctx), errno, "tried again")
			})
			assert.Equal(t, starts, l.m.starts, "what runs goes on")
			assert.Equal(t, "2.12.0", l.record().Current.Version)
			if name == "full" {
				now := l.tree()
				for f := range now {
					_, was := before[f]
					assert.True(t, was || strings.Contains(f, "install.json") || strings.Contains(f, "versions"), "%s is left on a full disk", f)
				}
			}
			l.m.Change = nil
			l.runs("2.13.0")
		})
	}
}

func TestTheCoresCertificateIsReplacedUnderTheGate(t *testing.T) {
	newPair := func() (cert, key []byte) {
		_, key, err := keystore.NewKey()
		require.NoError(t, err)
		return agenttest.SelfSigned(t, key), key
	}
	at := func(l *life, name string) string {
		b, err := os.ReadFile(l.m.Path(name))
		require.NoError(t, err)
		return string(b)
	}
	for _, kill := range []string{"", "core-swap-intent:before", "core-swap-intent:after", "core-swap:before", "core-swap:after", "core-swap-end:before", "core-swap-end:after"} {
		t.Run("killed "+kill, func(t *testing.T) {
			l := newLife(t, classicOf, "")
			l.offer("classic", classicZip("2.12.0"), nucleus.FormatZip)
			l.runs("2.12.0")
			old := at(l, "/greengrass/v2/cert.pem")
			cert, key := newPair()
			l.kill = kill
			l.agent(func(ctx context.Context, loop *reconcile.Loop) {
				loop.Start(ctx)
				_, _, err := loop.Certificate()
				require.NoError(t, err)
				if err := loop.ReplaceCertificate(ctx, cert, key); kill == "" {
					require.NoError(t, err)
				}
			})
			if kill != "" { // the next agent finds a pair that fits, and the call again gets it done
				l.agent(func(ctx context.Context, loop *reconcile.Loop) {
					loop.Start(ctx)
					c, k, err := loop.Certificate()
					require.NoError(t, err)
					assert.Equal(t, string(k) == string(key), string(c) == string(cert), "a pair")
					require.NoError(t, loop.ReplaceCertificate(ctx, cert, key))
					require.NoError(t, loop.ReplaceCertificate(ctx, cert, key), "the same again")
				})
			}
			assert.Equal(t, string(cert), at(l, "/greengrass/v2/cert.pem"))
			assert.Equal(t, string(key), at(l, "/greengrass/v2/private.key"))
			assert.Equal(t, string(key), at(l, agentRoot+"/private.key"))
			assert.NotEqual(t, old, string(cert))
			assert.NoFileExists(t, l.m.Path(agentRoot+"/agent/core-swap.json"))
		})
	}
	t.Run("one that the nucleus does not work with is taken back", func(t *testing.T) {
		l := newLife(t, classicOf, "")
		l.offer("classic", classicZip("2.12.0"), nucleus.FormatZip)
		l.runs("2.12.0")
		old := at(l, "/greengrass/v2/cert.pem")
		cert, key := newPair()
		l.agent(func(ctx context.Context, loop *reconcile.Loop) {
			loop.Start(ctx)
			l.m.mu.Lock()
			l.m.does["2.12.0"] = crashes
			l.m.mu.Unlock()
			require.ErrorIs(t, loop.ReplaceCertificate(ctx, cert, key), process.ErrUnproven)
			l.m.mu.Lock()
			l.m.does["2.12.0"] = works
			l.m.mu.Unlock()
			require.ErrorIs(t, loop.ReplaceCertificate(ctx, cert, []byte("no key")), fault.Invalid)
		})
		assert.Equal(t, old, at(l, "/greengrass/v2/cert.pem"))
	})
	t.Run("what is no certificate with its key is not written over, whatever the nucleus's configuration names", func(t *testing.T) {
		l := newLife(t, classicOf, "")
		l.found("gw", "2.11.0")
		cert, key := newPair()
		require.NoError(t, os.WriteFile(l.m.Path("/etc/own/cert.pem"), cert, 0o600))
		require.NoError(t, os.WriteFile(l.m.Path("/greengrass/v2/private.key"), []byte("root:secret:"), 0o600))
		l.agent(func(ctx context.Context, loop *reconcile.Loop) {
			loop.Start(ctx)
			cert, key := newPair()
			require.ErrorIs(t, loop.ReplaceCertificate(ctx, cert, key), fault.Conflict)
			assert.Equal(t, "root:secret:", at(l, "/greengrass/v2/private.key"))
			require.NoError(t, os.WriteFile(l.m.Path("/greengrass/v2/private.key"), key, 0o600))
			require.ErrorIs(t, loop.ReplaceCertificate(ctx, cert, key), fault.Conflict)
		})
		require.NoError(t, os.WriteFile(l.m.Path("/greengrass/v2/private.key"), key, 0o600))
		l.agent(func(ctx context.Context, loop *reconcile.Loop) {
			loop.Start(ctx)
			cert, key := newPair()
			require.NoError(t, loop.ReplaceCertificate(ctx, cert, key))
			assert.Equal(t, string(cert), at(l, "/etc/own/cert.pem"))
		})
	})
}

func TestByHandWithoutAControlPlane(t *testing.T) {
	l := newLife(t, classicOf, "")
	core := newPairFiles(t, l)
	archive := func(version string) reconcile.Archive {
		file := filepath.Join(t.TempDir(), version+".zip")
		require.NoError(t, os.WriteFile(file, classicZip(version), 0o600))
		a, err := reconcile.OpenArchive(t.Context(), file)
		require.NoError(t, err)
		return a
	}
	by := func(f func(ctx context.Context, loop *reconcile.Loop)) { l.agent(f) }
	by(func(ctx context.Context, loop *reconcile.Loop) {
		before := l.tree()
		steps, err := loop.Show(ctx, archive("2.12.0"), []byte(classicOf))
		require.NoError(t, err)
		require.Greater(t, len(steps), 5)
		assert.Equal(t, "switch", steps[len(steps)-1].Step.Name)
		now := l.tree()
		assert.Equal(t, before, now, "a plan changes nothing")
		require.NoError(t, loop.Install(ctx, archive("2.12.0"), []byte(classicOf)))
		require.NoError(t, loop.Install(ctx, archive("2.12.0"), nil), "again")
		require.NoError(t, loop.Install(ctx, archive("2.13.0"), nil))
		require.NoError(t, loop.Rollback(ctx))
		require.ErrorIs(t, loop.Rollback(ctx), fault.NotFound)
	})
	assert.Equal(t, "2.12.0", l.record().Current.Version)
	assert.Contains(t, l.m.version(), "2.12.0")
	b, err := os.ReadFile(l.m.Path(agentRoot + "/cert.pem"))
	require.NoError(t, err)
	assert.Equal(t, core, string(b))
	l.m.does["2.14.0"] = dies
	by(func(ctx context.Context, loop *reconcile.Loop) {
		require.ErrorContains(t, loop.Install(ctx, archive("2.14.0"), nil), "what ran before runs again")
	})
	by(func(ctx context.Context, loop *reconcile.Loop) {
		steps, err := loop.Remove(ctx, true)
		require.NoError(t, err)
		assert.NotEmpty(t, steps)
		_, err = loop.Remove(ctx, false)
		require.NoError(t, err)
		_, err = loop.Remove(ctx, false)
		require.ErrorIs(t, err, fault.NotFound)
	})
	assert.False(t, l.m.active["greengrass.service"])
	assert.FileExists(t, l.m.Path("/greengrass/v2/cert.pem"), "the core's files stay")
}

func newPairFiles(t *testing.T, l *life) (cert string) {
	t.Helper()
	_, key, err := keystore.NewKey()
	require.NoError(t, err)
	c := agenttest.SelfSigned(t, key)
	require.NoError(t, os.MkdirAll(l.m.Path("/greengrass/v2"), 0o755))
	for name, b := range map[string][]byte{"cert.pem": c, "private.key": key, "AmazonRootCA1.pem": c} {
		require.NoError(t, os.WriteFile(l.m.Path("/greengrass/v2/"+name), b, 0o600))
	}
	return string(c)
}
