package release_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

type kit struct {
	*release.Service
	t       *testing.T
	store   *memory.Store
	private []byte
	objects *objects.Store
	ahead   atomic.Int64 // seconds added to the clock
}

func newKit(t *testing.T, trusting bool) *kit {
	t.Helper()
	key, private, err := signed.NewKey("")
	require.NoError(t, err)
	k := &kit{t: t, private: private, store: memory.New(), objects: objects.New("bucket")}
	cfg := release.Config{
		Store: state.NewHub(k.store), Objects: k.objects,
		Now: func() time.Time { return time.Now().Add(time.Duration(k.ahead.Load()) * time.Second) },
	}
	if trusting {
		cfg.Keys = signed.Keys{key}
	}
	k.Service, err = release.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
	_, err = k.List(t.Context())
	require.NoError(t, err)
	return k
}

const platform = "linux/amd64"

func binary(version string) string { return "ggfleet-agent_" + version + "_linux_amd64" }

func (k *kit) sign(content, version, over string) string {
	k.t.Helper()
	sig, err := signed.Sign(k.private, "", strings.NewReader(content), signed.Statement{Version: version, Platform: platform, Over: over})
	require.NoError(k.t, err)
	return string(sig)
}

func (k *kit) put(version, name, content string) error {
	_, err := k.Put(k.t.Context(), version, name, strings.NewReader(content))
	return err
}

// add stores a release of one platform.
func (k *kit) add(version, over string) {
	k.t.Helper()
	require.NoError(k.t, k.put(version, binary(version), "agent "+version))
	require.NoError(k.t, k.put(version, binary(version)+".minisig", k.sign("agent "+version, version, over)))
}

func (k *kit) activate(version string, a release.Activation) {
	k.t.Helper()
	if a.Spread == nil {
		a.Spread = new(time.Duration(0))
	}
	_, err := k.Activate(k.t.Context(), version, a)
	require.NoError(k.t, err)
}

func (k *kit) offer(device, version string, u protocol.AgentUpdate) string {
	k.t.Helper()
	o, err := k.Offer(k.t.Context(), protocol.Subject{Role: protocol.RoleCore, Name: device}, protocol.AssignmentQuery{
		Platform: platform, Agent: protocol.AgentAbout{Version: version, Update: u},
	})
	require.NoError(k.t, err)
	if o == nil {
		return ""
	}
	return o.Version
}

func TestAReleaseIsOfferedOnceItIsActive(t *testing.T) {
	k := newKit(t, true)
	k.add("1.4.0", "")
	assert.Empty(t, k.offer("gw", "1.3.0", protocol.AgentUpdate{}), "uploaded is not offered")
	k.activate("1.4.0", release.Activation{Percentage: 100})
	assert.Equal(t, "1.4.0", k.offer("gw", "1.3.0", protocol.AgentUpdate{}))
	assert.Empty(t, k.offer("gw", "1.4.0", protocol.AgentUpdate{}), "it has it")
	assert.Empty(t, k.offer("gw", "1.5.0", protocol.AgentUpdate{}), "it is ahead")
	assert.Empty(t, k.offer("gw", "", protocol.AgentUpdate{}), "an agent that does not update itself")

	k.add("1.5.0", "")
	k.activate("1.5.0", release.Activation{Percentage: 100, NamePattern: "test-*"})
	assert.Equal(t, "1.4.0", k.offer("gw", "1.3.0", protocol.AgentUpdate{}))
	assert.Equal(t, "1.5.0", k.offer("test-1", "1.3.0", protocol.AgentUpdate{}), "the latest that it may have")

	_, err := k.Pause(t.Context(), "1.5.0")
	require.NoError(t, err)
	assert.Equal(t, "1.4.0", k.offer("test-1", "1.3.0", protocol.AgentUpdate{}))
	assert.Empty(t, k.offer("test-1", "1.5.0", protocol.AgentUpdate{}), "1.4.0 is not signed to go back to")
	k.add("1.4.1", "1.5.0")
	k.activate("1.4.1", release.Activation{Percentage: 100})
	assert.Equal(t, "1.4.1", k.offer("test-1", "1.5.0", protocol.AgentUpdate{}), "1.4.1 is")

	list, err := k.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 3)
	assert.Equal(t, "1.5.0", list[0].Version)
	assert.Equal(t, release.Paused, list[0].Rollout.State)
	assert.Equal(t, 1, list[0].Running)
}

func TestUploads(t *testing.T) {
	good := "agent 1.4.0"
	for name, tc := range map[string]struct {
		trusting bool
		do       func(k *kit) error
		kind     fault.Kind
	}{
		"binary, then its signature": {true, func(k *kit) error {
			return errors.Join(k.put("1.4.0", binary("1.4.0"), good), k.put("1.4.0", binary("1.4.0")+".minisig", k.sign(good, "1.4.0", "")))
		}, ""},
		"signature, then its binary": {true, func(k *kit) error {
			return errors.Join(k.put("1.4.0", binary("1.4.0")+".minisig", k.sign(good, "1.4.0", "")), k.put("1.4.0", binary("1.4.0"), good))
		}, ""},
		"a wrong signature": {true, func(k *kit) error {
			require.NoError(k.t, k.put("1.4.0", binary("1.4.0"), good))
			return k.put("1.4.0", binary("1.4.0")+".minisig", k.sign("other", "1.4.0", ""))
		}, fault.Invalid},
		"a wrong binary": {true, func(k *kit) error {
			require.NoError(k.t, k.put("1.4.0", binary("1.4.0")+".minisig", k.sign(good, "1.4.0", "")))
			return k.put("1.4.0", binary("1.4.0"), "other")
		}, fault.Invalid},
		"a wrong signature where no key is known": {false, func(k *kit) error {
			require.NoError(k.t, k.put("1.4.0", binary("1.4.0"), good))
			return k.put("1.4.0", binary("1.4.0")+".minisig", k.sign("other", "1.4.0", ""))
		}, ""},
		"a signature for another version": {false, func(k *kit) error {
			return k.put("1.4.0", binary("1.4.0")+".minisig", k.sign(good, "1.3.0", ""))
		}, fault.Invalid},
		"a signature that is none": {false, func(k *kit) error { return k.put("1.4.0", binary("1.4.0")+".minisig", "x") }, fault.Invalid},
		"another file's signature": {true, func(k *kit) error { return k.put("1.4.0", "SHA256SUMS.minisig", "whatever") }, ""},
		"a package":                {true, func(k *kit) error { return k.put("1.4.0", "ggfleet-agent_1.4.0_linux_amd64.deb", "deb") }, ""},
		"the same twice": {true, func(k *kit) error {
			return errors.Join(k.put("1.4.0", "install.sh", "a"), k.put("1.4.0", "install.sh", "a"))
		}, ""},
		"other content": {true, func(k *kit) error {
			return errors.Join(k.put("1.4.0", "install.sh", "a"), k.put("1.4.0", "install.sh", "b"))
		}, fault.Exists},
		"nothing":                {true, func(k *kit) error { return k.put("1.4.0", "install.sh", "") }, fault.TooLarge},
		"a name with a path":     {true, func(k *kit) error { return k.put("1.4.0", "../x", "a") }, fault.Invalid},
		"a name with two dots":   {true, func(k *kit) error { return k.put("1.4.0", "a..b", "a") }, fault.Invalid},
		"a version that is none": {true, func(k *kit) error { return k.put("latest", "install.sh", "a") }, fault.Invalid},
		"a version with a v":     {true, func(k *kit) error { return k.put("v1.4.0", "install.sh", "a") }, fault.Invalid},
		"one file too many": {true, func(k *kit) (err error) {
			for i := range release.MaxFiles + 1 {
				err = k.put("1.4.0", fmt.Sprintf("file-%d", i), "a")
			}
			return err
		}, fault.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, tc.trusting)
			err := tc.do(k)
			if tc.kind == "" {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, tc.kind)
			}
		})
	}
}

func TestAReleaseWithoutSignatureIsNotActivated(t *testing.T) {
	k := newKit(t, false)
	require.NoError(t, k.put("1.4.0", binary("1.4.0"), "agent"))
	_, err := k.Activate(t.Context(), "1.4.0", release.Activation{Percentage: 100})
	require.ErrorIs(t, err, fault.Conflict)
	_, err = k.Activate(t.Context(), "1.9.0", release.Activation{Percentage: 100})
	require.ErrorIs(t, err, fault.NotFound)
	for _, a := range []release.Activation{{}, {Percentage: 101}, {Percentage: -1}, {Percentage: 1, MaxFailures: -1}, {Percentage: 1, NamePattern: "["}, {Percentage: 1, Spread: new(-time.Second)}} {
		_, err = k.Activate(t.Context(), "1.4.0", a)
		require.ErrorIs(t, err, fault.Invalid, "%+v", a)
	}
}

func (k *kit) offered(n int) map[string]bool {
	got := map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("gw-%d", i)
		o, err := k.Offer(k.t.Context(), protocol.Subject{Name: name}, protocol.AssignmentQuery{Platform: platform, Agent: protocol.AgentAbout{Version: "1.3.0"}})
		require.NoError(k.t, err)
		if o != nil && o.WaitSeconds == 0 {
			got[name] = true
		}
	}
	return got
}

func TestAShareGrowsAndKeepsWhoIsIn(t *testing.T) {
	k := newKit(t, true)
	k.add("1.4.0", "")
	k.activate("1.4.0", release.Activation{Percentage: 10})
	ten := k.offered(1000)
	assert.InDelta(t, 100, len(ten), 40)
	assert.Equal(t, ten, k.offered(1000), "the same at each time")
	_, err := k.Activate(t.Context(), "1.4.0", release.Activation{Percentage: 50, Spread: new(time.Hour)})
	require.NoError(t, err)
	assert.InDelta(t, len(ten), len(k.offered(1000)), 5, "it grows from what it was")
	late, err := k.Offer(t.Context(), protocol.Subject{Name: "gw-3"}, protocol.AssignmentQuery{Platform: platform, Agent: protocol.AgentAbout{Version: "1.3.0"}})
	require.NoError(t, err)
	if late != nil {
		assert.LessOrEqual(t, late.WaitSeconds, 3600, "the others know when it is their turn")
	}
	k.ahead.Add(1800)
	thirty := k.offered(1000)
	assert.InDelta(t, 300, len(thirty), 60)
	k.ahead.Add(7200)
	fifty := k.offered(1000)
	assert.InDelta(t, 500, len(fifty), 60)
	for name := range ten {
		assert.True(t, thirty[name] && fifty[name])
	}
	k.add("1.4.1", "")
	k.activate("1.4.1", release.Activation{Percentage: 10})
	other := k.offered(1000)
	same := 0
	for name := range ten {
		if r, _ := k.Offer(t.Context(), protocol.Subject{Name: name}, protocol.AssignmentQuery{Platform: platform, Agent: protocol.AgentAbout{Version: "1.3.0"}}); r != nil && r.Version == "1.4.1" {
			same++
		}
	}
	assert.NotEmpty(t, other)
	assert.Less(t, same, len(ten)/2, "the first of one version are not the first of the next")
}

func TestARolloutStopsWhenDevicesFail(t *testing.T) {
	k := newKit(t, true)
	k.add("1.4.0", "")
	k.activate("1.4.0", release.Activation{Percentage: 100, MaxFailures: 3})
	failed := protocol.AgentUpdate{Version: "1.4.0", Digest: strings.Repeat("a", 64), State: protocol.UpdateFailed, Reason: "it hangs"}
	get := func() release.Release {
		r, err := k.Get(t.Context(), "1.4.0")
		require.NoError(t, err)
		return r
	}
	blocked := failed
	blocked.State = protocol.UpdateBlocked
	for range 3 {
		k.offer("gw-1", "1.3.0", failed)
		k.offer("gw-1", "1.3.0", blocked) // says that it is well, then fails again
	}
	k.offer("gw-full", "1.3.0", blocked)
	assert.Equal(t, 1, get().Rollout.Failures, "a device counts once; a full disk does not")
	k.offer("gw-2", "1.3.0", failed)
	require.Equal(t, release.Active, get().Rollout.State)
	assert.Equal(t, "1.4.0", k.offer("gw-9", "1.3.0", protocol.AgentUpdate{}))
	k.offer("gw-3", "1.3.0", failed)
	r := get()
	assert.Equal(t, release.Stopped, r.Rollout.State)
	assert.Contains(t, r.Rollout.Reason, "gw-3: it hangs")
	told, err := k.store.List(t.Context(), state.Root+"event/outbox/", "", 0)
	require.NoError(t, err)
	require.Len(t, told.Entries, 1, "subscribers are told once")
	assert.Contains(t, string(told.Entries[0].Value), "Agent Release Stopped Event")
	assert.Equal(t, 2, r.Updates[protocol.UpdateFailed])
	assert.Empty(t, k.offer("gw-8", "1.3.0", protocol.AgentUpdate{}))

	list, _, err := k.Devices(t.Context(), release.Filter{Version: "1.4.0", State: protocol.UpdateFailed}, "", 0)
	require.NoError(t, err)
	assert.Len(t, list, 2)
	page, next, err := k.Devices(t.Context(), release.Filter{}, "", 2)
	require.NoError(t, err)
	require.Len(t, page, 2)
	rest, last, err := k.Devices(t.Context(), release.Filter{}, next, 100)
	require.NoError(t, err)
	assert.Empty(t, last)
	assert.Len(t, rest, 4)

	k.activate("1.4.0", release.Activation{Percentage: 100, MaxFailures: 3})
	assert.Equal(t, release.Active, get().Rollout.State)
	assert.Zero(t, get().Rollout.Failures)
	require.NoError(t, k.Forget(t.Context(), "gw-1"))
}

func TestADeviceThatSaysSomethingElseEachTimeWritesAndCountsLittle(t *testing.T) {
	k := newKit(t, true)
	for _, v := range []string{"1.4.0", "1.5.0"} {
		k.add(v, "")
		k.activate(v, release.Activation{Percentage: 100, MaxFailures: 3})
	}
	writes := 0
	k.store.FailCommit = func(b *state.Batch) error {
		if b.Step == state.StepRelease {
			writes++
		}
		return nil
	}
	say := func(times int) {
		for i := range times {
			k.offer("liar", "1.3.0", protocol.AgentUpdate{Version: []string{"1.4.0", "1.5.0"}[i%2], Digest: "d", State: protocol.UpdateFailed, Reason: fmt.Sprint(i)})
		}
	}
	say(200)
	assert.LessOrEqual(t, writes, 20)
	for _, v := range []string{"1.4.0", "1.5.0"} {
		r, err := k.Get(t.Context(), v)
		require.NoError(t, err)
		assert.Equal(t, release.Active, r.Rollout.State, "one device stops a release for all")
		assert.Equal(t, 1, r.Rollout.Failures)
	}
	before := writes
	k.ahead.Add(3600)
	k.offer("liar", "1.6.0", protocol.AgentUpdate{})
	assert.Equal(t, before+1, writes, "what is new is heard later")
}

func TestManyFailuresAtOnceAreCountedExactly(t *testing.T) {
	k := newKit(t, true)
	k.add("1.4.0", "")
	k.activate("1.4.0", release.Activation{Percentage: 100, MaxFailures: 1000})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				k.offer(fmt.Sprintf("gw-%d-%d", i, j), "1.3.0", protocol.AgentUpdate{Version: "1.4.0", Digest: "d", State: protocol.UpdateFailed})
			}
		})
	}
	wg.Wait()
	r, err := k.Get(t.Context(), "1.4.0")
	require.NoError(t, err)
	assert.Equal(t, 40, r.Rollout.Failures)
}

func TestFilesForDevicesAndTechnicians(t *testing.T) {
	k := newKit(t, true)
	read := func(version, name string) string {
		f, _, err := k.Install(t.Context(), version, name)
		if err != nil {
			require.ErrorIs(t, err, fault.NotFound)
			return ""
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		require.NoError(t, err)
		return string(b)
	}
	k.add("1.4.0", "")
	k.add("1.5.0", "")
	require.NoError(t, k.put("1.4.0", "install.sh", "of 1.4.0"))
	require.NoError(t, k.put("1.5.0", "install.sh", "of 1.5.0"))
	assert.Equal(t, "of 1.5.0", read("", "install.sh"), "before anything is offered: the latest")
	k.activate("1.4.0", release.Activation{Percentage: 1})
	assert.Equal(t, "of 1.4.0", read("", "install.sh"), "then what is offered")
	assert.Equal(t, "of 1.5.0", read("1.5.0", "install.sh"))
	assert.Empty(t, read("", "../x"))
	assert.Empty(t, read("..", "install.sh"))

	r, err := k.Get(t.Context(), "1.5.0")
	require.NoError(t, err)
	_, _, err = k.Open(t.Context(), r.Platforms[0].Digest)
	require.ErrorIs(t, err, fault.NotFound, "what is not offered is not sent")
	k.activate("1.5.0", release.Activation{Percentage: 1})
	f, _, err := k.Open(t.Context(), r.Platforms[0].Digest)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.True(t, r.Platforms[0].Verified)
	assert.Len(t, r.Platforms, 1, "a signature is no platform")
	_, _, err = k.Open(t.Context(), "x")
	require.ErrorIs(t, err, fault.NotFound)

	require.ErrorIs(t, k.Remove(t.Context(), "1.4.0"), fault.Conflict, "it is offered")
	_, err = k.Pause(t.Context(), "1.5.0")
	require.NoError(t, err)
	require.NoError(t, k.Remove(t.Context(), "1.5.0"))
	require.NoError(t, k.Remove(t.Context(), "1.5.0"), "twice")
	assert.Empty(t, read("1.5.0", "install.sh"))
	left, err := k.objects.List(t.Context(), "agent-releases/1.5.0", "", 0)
	require.NoError(t, err)
	assert.Empty(t, left)
}
