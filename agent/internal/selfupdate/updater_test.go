package selfupdate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestAReleaseIsVerifiedAndPutOnTrial(t *testing.T) {
	k := newKit(t)
	r := k.release("1.4.0", script("1.4.0"), "")
	u := k.connected("", "1.0.0", &r)
	require.NoError(t, u.Turn(t.Context()))
	assert.Equal(t, 1, k.hands())
	got := k.record()
	require.NotNil(t, got.Trial)
	assert.Equal(t, protocol.NucleusRunning, got.Trial.Nucleus)
	assert.Equal(t, "1.0.0", got.Trial.From)
	assert.False(t, got.Trial.Alone)
	info, err := os.Stat(filepath.Join(k.root, "agent", "releases", got.Trial.Name(), "ggfleet-agent"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	assert.Equal(t, protocol.UpdateTrial, u.About().Update.State)
	require.NoError(t, u.Turn(t.Context()))
	assert.Equal(t, 1, k.hands(), "once")
}

func TestAReleaseThatCannotBeIsNotRun(t *testing.T) {
	good := script("1.4.0")
	for name, tc := range map[string]struct {
		version, content string
		change           func(k *kit, r *protocol.AgentRelease)
		state            protocol.UpdateState
		says             string
	}{
		"other bytes than signed": {"1.4.0", good, func(k *kit, r *protocol.AgentRelease) {
			k.files[r.Digest] = []byte(strings.Replace(good, "echo", "ecHo", 1))
		}, protocol.UpdateRefused, "not one of this file"},
		"other bytes, with their digest": {"1.4.0", good, func(k *kit, r *protocol.AgentRelease) {
			sig := r.Signature
			*r = k.release("1.4.0", good+"rm -rf /\n", "")
			r.Signature = sig
		}, protocol.UpdateRefused, "not one of this file"},
		"another digest": {"1.4.0", good, func(k *kit, r *protocol.AgentRelease) {
			b := k.files[r.Digest]
			r.Digest = strings.Repeat("0", 64)
			k.files[r.Digest] = b
		}, protocol.UpdateRefused, "announced were"},
		"a digest that is a path":         {"1.4.0", good, func(_ *kit, r *protocol.AgentRelease) { r.Digest = "../../x" }, protocol.UpdateRefused, "digest"},
		"a size that is too large":        {"1.4.0", good, func(_ *kit, r *protocol.AgentRelease) { r.Size = 1 << 40 }, protocol.UpdateRefused, "size"},
		"a signature for another version": {"1.4.0", good, func(_ *kit, r *protocol.AgentRelease) { r.Version = "1.5.0" }, protocol.UpdateRefused, "is of ggfleet-agent 1.4.0"},
		"a signature that is none":        {"1.4.0", good, func(_ *kit, r *protocol.AgentRelease) { r.Signature = "x" }, protocol.UpdateRefused, "signature"},
		"another platform": {"1.4.0", good, func(k *kit, r *protocol.AgentRelease) {
			sig, err := signed.Sign(k.private, "", strings.NewReader(good), signed.Statement{Version: "1.4.0", Platform: "linux/riscv64"})
			require.NoError(k.t, err)
			r.Signature = string(sig)
		}, protocol.UpdateRefused, "linux/riscv64"},
		"an unknown key": {"1.4.0", good, func(k *kit, r *protocol.AgentRelease) {
			_, k.private, _ = signed.NewKey("")
			*r = k.release("1.4.0", good, "")
		}, protocol.UpdateRefused, "not trusted here"},
		"no key": {"1.4.0", good, func(k *kit, _ *protocol.AgentRelease) {
			require.NoError(k.t, os.Remove(filepath.Join(k.root, "agent", "update-keys")))
		}, protocol.UpdateOff, "update-key add"},
		"a program that ends at once":    {"1.4.0", "#!/bin/sh\nexit 3\n", nil, protocol.UpdateRefused, "does not run here"},
		"a program of another format":    {"1.4.0", "\x7fELF\x02\x01\x01 not really", nil, protocol.UpdateRefused, "not for this platform"},
		"a program of another version":   {"1.4.0", script("1.3.0"), nil, protocol.UpdateRefused, "says that it is"},
		"a disk with no room":            {"1.4.0", good, func(k *kit, _ *protocol.AgentRelease) { k.free = new(uint64(1 << 20)) }, protocol.UpdateBlocked, "MiB free"},
		"a disk that is full on the way": {"1.4.0", good, func(k *kit, _ *protocol.AgentRelease) { k.fails = syscall.ENOSPC }, protocol.UpdateBlocked, "no space"},
		"a read-only file system":        {"1.4.0", good, func(k *kit, _ *protocol.AgentRelease) { k.fails = syscall.EROFS }, protocol.UpdateBlocked, "read-only"},
		"a control plane that is gone":   {"1.4.0", good, func(k *kit, _ *protocol.AgentRelease) { k.fails = errors.New("gone") }, protocol.UpdateDownloading, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			r := k.release(tc.version, tc.content, "")
			if tc.change != nil {
				tc.change(k, &r)
			}
			u := k.connected("", "1.0.0", &r)
			require.Error(t, u.Turn(t.Context()))
			assert.Zero(t, k.hands())
			assert.Nil(t, k.record().Trial)
			got := u.About().Update
			assert.Equal(t, tc.state, got.State)
			assert.Contains(t, got.Reason, tc.says)
			assert.NotContains(t, got.Reason, "\n")
			for _, s := range k.slots() {
				assert.NoFileExists(t, filepath.Join(k.root, "agent", "releases", s, "ggfleet-agent"))
			}
			n := k.fetched
			require.NoError(t, u.Turn(t.Context()))
			assert.Equal(t, n, k.fetched, "not fetched again at once")
		})
	}
}

func TestAProgramThatHangsIsRefused(t *testing.T) {
	k := newKit(t)
	r := k.release("1.4.0", "#!/bin/sh\nexec sleep 600\n", "")
	u := k.connected("", "1.0.0", &r)
	require.ErrorContains(t, u.Turn(t.Context()), "did not say its version")
	assert.Empty(t, k.slots())
}

func TestWhatIsNotNewerIsLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		version, over string
		taken         bool
	}{
		"the same version":                  {"1.4.0", "", false},
		"an earlier one":                    {"1.3.0", "", false},
		"an earlier one, signed to go back": {"1.3.0", "1.4.0", true},
		"a statement that has ended":        {"1.3.0", "1.3.5", false},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			r := k.release(tc.version, script(tc.version), tc.over)
			u := k.connected("", "1.4.0", &r)
			require.NoError(t, u.Turn(t.Context()))
			assert.Equal(t, tc.taken, k.hands() == 1)
			if !tc.taken {
				assert.Zero(t, k.fetched)
			}
		})
	}
}

func TestADownloadGoesOnWhereItWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		r := k.release("1.4.0", script("1.4.0"), "")
		k.cut[r.Digest] = 10
		u := k.connected("", "1.0.0", &r)
		require.Error(t, u.Turn(t.Context()))
		time.Sleep(2 * time.Hour)
		require.NoError(t, u.Turn(t.Context()))
		assert.Equal(t, 1, k.hands())
		assert.Equal(t, 2, k.fetched)
	})
}

func TestNothingIsInterruptedForARelease(t *testing.T) {
	k := newKit(t)
	k.busy = "a patch is in hand"
	r := k.release("1.4.0", script("1.4.0"), "")
	u := k.connected("", "1.0.0", &r)
	require.NoError(t, u.Turn(t.Context()))
	assert.Zero(t, k.hands())
	assert.Contains(t, u.About().Update.Reason, "a patch is in hand")
	k.busy = ""
	require.NoError(t, u.Turn(t.Context()))
	assert.Equal(t, 1, k.hands())
}

// staged is a kit with release 1.4.0 on trial.
func staged(t *testing.T) (*kit, protocol.AgentRelease) {
	t.Helper()
	k := newKit(t)
	r := k.release("1.4.0", script("1.4.0"), "")
	require.NoError(t, k.connected("", "1.0.0", &r).Turn(t.Context()))
	require.NotNil(t, k.record().Trial)
	k.handed = 0
	return k, r
}

// runs runs u for d.
func runs(t *testing.T, u *selfupdate.Updater, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	require.NoError(t, u.Run(ctx))
}

func TestAReleaseProvesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := staged(t)
		executed, env := k.handOver("1.0.0", nil)
		require.Len(t, executed, 1)
		assert.Contains(t, env, selfupdate.ReleaseVar+"="+r.Digest+" 1.0.0")
		u := k.connected(r.Digest, "1.4.0", &r)
		runs(t, u, 59*time.Second)
		require.NotNil(t, k.record().Trial, "not before it has run for a while")
		runs(t, u, 2*time.Second)
		got := k.record()
		assert.Nil(t, got.Trial)
		require.NotNil(t, got.Committed)
		assert.Equal(t, "1.4.0", got.Committed.Version)
		assert.Equal(t, protocol.UpdateCommitted, u.About().Update.State)
		assert.Zero(t, k.hands())

		executed, _ = k.handOver("1.0.0", nil)
		require.Len(t, executed, 1, "from now on it is the agent")
		runs(t, k.connected(r.Digest, "1.4.0", &r), 2*time.Minute)
		assert.Zero(t, k.record().Committed.Starts, "its start is forgotten")
	})
}

func TestAReleaseThatDoesNotProveItself(t *testing.T) {
	for name, tc := range map[string]struct {
		reached bool
		nucleus protocol.NucleusState
		failed  bool
		says    string
	}{
		"the nucleus does not run any more":          {true, protocol.NucleusFailed, true, "the nucleus is failed"},
		"nor does it, and nothing is reached":        {false, protocol.NucleusFailed, true, "the nucleus is failed"},
		"the nucleus was never seen":                 {true, "", true, "the nucleus is unknown"},
		"the control plane is not reached, it waits": {false, protocol.NucleusRunning, false, "not reached the control plane"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, r := staged(t)
				u := k.updater(r.Digest, "1.4.0")
				if tc.reached {
					u.Assigned(&r)
					u.SessionUp()
				}
				u.Nucleus(tc.nucleus)
				runs(t, u, 9*time.Minute)
				require.Zero(t, k.hands(), "it has ten minutes")
				runs(t, u, 2*time.Minute)
				assert.Equal(t, 1, k.hands())
				got := k.record()
				assert.Equal(t, tc.failed, got.Trial == nil)
				assert.Contains(t, got.Last.Reason, tc.says)
				executed, _ := k.handOver("1.0.0", nil)
				assert.Empty(t, executed, "the old one runs")
				old := k.updater("", "1.0.0")
				assert.Contains(t, old.About().Update.Reason, tc.says, "and reports why")
				if !tc.failed {
					return
				}
				old.Assigned(&r)
				old.SessionUp()
				runs(t, old, 48*time.Hour)
				assert.Equal(t, 1, k.hands(), "it is not tried again")
				assert.Equal(t, protocol.UpdateFailed, old.About().Update.State)
			})
		})
	}
}

func TestAControlPlaneThatIsAwayForWeeksIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := staged(t)
		u := k.updater(r.Digest, "1.4.0")
		u.Nucleus(protocol.NucleusRunning)
		runs(t, u, 11*time.Minute)
		require.True(t, k.record().Trial.Waiting)
		old := k.updater("", "1.0.0")
		old.Nucleus(protocol.NucleusRunning)
		runs(t, old, 21*24*time.Hour)
		require.Equal(t, 1, k.hands(), "the old one waits for the control plane")
		old.Assigned(&r)
		old.SessionUp()
		runs(t, old, time.Hour)
		got := k.record()
		require.Equal(t, 2, k.hands(), "then the release has its second round")
		assert.Zero(t, got.Trial.Silent, "and nothing is held against it")
		assert.Equal(t, 2, got.Trial.Rounds)
		runs(t, k.connected(r.Digest, "1.4.0", &r), 2*time.Minute)
		assert.Equal(t, "1.4.0", k.record().Committed.Version)
	})
}

func TestAReleaseThatCannotReachTheControlPlaneIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := staged(t)
		began := time.Now()
		for range selfupdate.MaxSilent {
			u := k.updater(r.Digest, "1.4.0")
			u.Nucleus(protocol.NucleusRunning)
			runs(t, u, 11*time.Minute)
			runs(t, k.connected("", "1.0.0", &r), 50*time.Minute)
		}
		got := k.record()
		assert.Nil(t, got.Trial)
		assert.Equal(t, protocol.UpdateFailed, got.Last.State)
		assert.Empty(t, k.slots())
		assert.Less(t, time.Since(began), 4*time.Hour)
	})
}

func TestAReleaseThatIsWithdrawnIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, r := staged(t)
		runs(t, k.updater(r.Digest, "1.4.0"), 11*time.Minute) // its nucleus is unknown: failed
		require.Nil(t, k.record().Trial)

		k, r = staged(t)
		u := k.updater(r.Digest, "1.4.0")
		u.Nucleus(protocol.NucleusRunning)
		runs(t, u, 11*time.Minute)
		fixed := k.release("1.4.1", script("1.4.1"), "")
		old := k.connected("", "1.0.0", &fixed)
		runs(t, old, time.Minute)
		assert.Equal(t, "1.4.1", k.record().Trial.Version, "the one that is offered now is")
	})
}

func TestWhatATechnicianBringsNeedsNoControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		r := k.release("1.4.0", script("1.4.0"), "")
		file := filepath.Join(t.TempDir(), "release")
		require.NoError(t, os.WriteFile(file, []byte(script("1.4.0")), 0o600))
		_, err := selfupdate.Bring(k.root, file, platform, true)
		require.ErrorIs(t, err, os.ErrNotExist, "no signature")
		require.NoError(t, os.WriteFile(file+".minisig", []byte(r.Signature), 0o600))
		_, err = selfupdate.Bring(k.root, file, "linux/arm64", false)
		require.ErrorContains(t, err, "this is linux/arm64")
		b, err := selfupdate.Bring(k.root, file, platform, true)
		require.NoError(t, err)
		assert.Equal(t, "1.4.0", b.Version)
		assert.NoDirExists(t, filepath.Join(k.root, "agent", "update-inbox"), "a dry run changes nothing")
		_, err = selfupdate.Bring(k.root, file, platform, false)
		require.NoError(t, err)

		old := k.updater("", "1.0.0")
		old.Nucleus(protocol.NucleusRunning)
		runs(t, old, time.Second)
		require.Equal(t, 1, k.hands())
		assert.True(t, k.record().Trial.Alone)
		assert.NoDirExists(t, filepath.Join(k.root, "agent", "update-inbox"))
		u := k.updater(r.Digest, "1.4.0")
		u.Nucleus(protocol.NucleusRunning)
		runs(t, u, 2*time.Minute)
		assert.Equal(t, "1.4.0", k.record().Committed.Version)

		require.NoError(t, os.WriteFile(file, []byte(script("1.4.0")+"#"), 0o600))
		_, err = selfupdate.Bring(k.root, file, platform, false)
		require.ErrorContains(t, err, "not one of this file")
	})
}

func TestADiskThatTakesNothingAtAnyStepCostsTimeOnly(t *testing.T) {
	for _, p := range localstate.UpdatePoints() {
		t.Run(string(p), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				full := true
				k.around = func(at localstate.Point, do func() error) error {
					if at == p && full {
						return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
					}
					return do()
				}
				r := k.release("1.4.0", script("1.4.0"), "")
				bad := k.release("1.5.0", script("1.5.0"), "")
				// the device is started until it has taken 1.4.0 and refused 1.5.0
				life := func(offer protocol.AgentRelease, nucleus protocol.NucleusState) {
					executed, _ := k.handOver("1.0.0", nil)
					running, version := "", "1.0.0"
					if len(executed) > 0 {
						version = executed[0][:5]
						running = map[string]string{"1.4.0": r.Digest, "1.5.0": bad.Digest}[version]
					}
					u := k.updater(running, version)
					u.Assigned(&offer)
					u.SessionUp()
					if version == "1.5.0" {
						nucleus = protocol.NucleusFailed
					}
					u.Nucleus(nucleus)
					runs(t, u, 3*time.Hour)
				}
				for range 2 {
					life(r, protocol.NucleusRunning)
				}
				if executed, _ := k.handOver("1.0.0", nil); len(executed) > 0 {
					assert.Equal(t, r.Digest[:8], executed[0][6:], "what runs is a whole agent")
				}
				full = false
				for range 4 {
					life(r, protocol.NucleusRunning)
				}
				require.NotNil(t, k.record().Committed)
				assert.Equal(t, "1.4.0", k.record().Committed.Version)
				for range 4 {
					life(bad, protocol.NucleusRunning)
				}
				assert.Equal(t, "1.4.0", k.record().Committed.Version)
				end := k.record()
				_, rejected := end.IsRejected(bad.Digest)
				assert.True(t, rejected)
			})
		})
	}
}

func TestWhyAReleaseIsNotTakenIsShownOnTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		r := k.release("1.4.0", script("1.4.0"), "")
		k.fails = syscall.EROFS
		u := k.connected("", "1.0.0", &r)
		writes := 0
		k.around = func(_ localstate.Point, do func() error) error { writes++; return do() }
		runs(t, u, 24*time.Hour)
		var b strings.Builder
		require.NoError(t, selfupdate.Status(&b, k.root, "1.0.0"))
		assert.Contains(t, b.String(), "update:   1.4.0 blocked: ")
		assert.Contains(t, b.String(), "read-only file system")
		assert.Less(t, writes, 2*k.fetched, "written once, however often it is tried")
		assert.Equal(t, protocol.UpdateBlocked, k.updater("", "1.0.0").About().Update.State, "also by the next agent")
	})
}

func TestAReleaseComesSoonAfterThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		r := k.release("1.4.0", script("1.4.0"), "")
		k.free = new(uint64(1 << 20))
		u := k.connected("", "1.0.0", &r)
		runs(t, u, 24*time.Hour)
		require.Zero(t, k.fetched)
		k.free = new(uint64(1 << 30))
		runs(t, u, 2*time.Minute)
		assert.Equal(t, 1, k.fetched)
		assert.Equal(t, 1, k.hands())
	})
}

func TestAFleetDoesNotComeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		r := k.release("1.4.0", script("1.4.0"), "")
		r.WaitSeconds = 3600
		u := k.connected("", "1.0.0", &r)
		for range 58 { // the same answer again does not put it off
			runs(t, u, time.Minute)
			u.Assigned(&r)
		}
		require.Zero(t, k.fetched)
		runs(t, u, 3*time.Minute)
		assert.Equal(t, 1, k.hands())
	})
}

func TestAnOfferThatIsTakenBackIsNotFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		r := k.release("1.4.0", script("1.4.0"), "")
		r.WaitSeconds = 600
		u := k.connected("", "1.0.0", &r)
		runs(t, u, time.Minute)
		u.Assigned(nil)
		runs(t, u, time.Hour)
		assert.Zero(t, k.fetched)
	})
}
