package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/agent/internal/patch"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// lastResort is after how long an agent that is to hand over, and does not come
// to its end, is replaced as it is.
const lastResort = 2 * time.Minute

// buildTimes are other times than the defaults, as
// "POLL TRIAL SETTLE RETRY RENEWAL MINWAIT" or the first of these, set by -ldflags -X in builds for tests: nobody waits
// for ten minutes there.
var buildTimes string //nolint:gochecknoglobals // the linker sets it

func (c *Config) fromBuild() {
	for i, text := range strings.Fields(buildTimes) {
		into := []*time.Duration{&c.Poll, &c.UpdateTrial, &c.UpdateSettle, &c.UpdateRetry, &c.Renewal, &c.MinWait}
		if d, err := time.ParseDuration(text); err == nil && i < len(into) && *into[i] == 0 {
			*into[i] = d
		}
	}
}

// platform is what releases are built for.
const platform = runtime.GOOS + "/" + runtime.GOARCH

// plainVersion is a version without the v that tags have.
func plainVersion(v string) string { return strings.TrimPrefix(v, "v") }

// handOver turns this process into the release that is to be the agent, or says
// which program it is. Until run is done, end makes the agent give its place to
// the packaged one.
func (a *agent) handOver(ctx context.Context) (_ context.Context, done func()) {
	a.running = selfupdate.HandOver(ctx, selfupdate.HandOverConfig{
		Root: a.cfg.Root, Version: plainVersion(a.cfg.Version), Around: a.cfg.Around, Log: a.cfg.Log,
	})
	ctx, cancel := context.WithCancelCause(ctx)
	last := time.AfterFunc(lastResort, func() {
		a.cfg.Log.ErrorContext(context.WithoutCancel(ctx), "agent does not come to its end, it is replaced as it is", logx.Err, selfupdate.Again())
	})
	last.Stop()
	a.end = func() {
		last.Reset(lastResort)
		cancel(ErrHandOver)
	}
	return ctx, func() { last.Stop(); cancel(nil) }
}

// openUpdate makes what updates the agent.
func (a *agent) openUpdate() (err error) {
	a.update, err = selfupdate.New(selfupdate.Config{
		Dir: a.dir, Cloud: a.cloud, Running: a.running, Version: plainVersion(a.cfg.Version), Platform: platform,
		HandOver: a.end, Busy: a.busy, Free: func() (uint64, bool) {
			free := inventory.New("/").Read(a.dir.Site()).Disk.FreeBytes
			if free == nil {
				return 0, false
			}
			return *free, true
		},
		Trial: a.cfg.UpdateTrial, Settle: a.cfg.UpdateSettle, Retry: a.cfg.UpdateRetry, Every: min(cmp.Or(a.cfg.Poll, time.Minute), time.Minute), Log: a.cfg.Log,
	})
	if err == nil {
		a.work = append(a.work, a.watchdog.Watch(run.Loop{Name: "self-update", Run: a.update.Run}, passStall))
	}
	return err
}

// busy says what must not be interrupted by a hand-over.
func (a *agent) busy() string {
	var r reconcile.Record
	switch {
	case patch.InHand(a.dir):
		return "a patch is in hand"
	case a.dir.ReadJSON(reconcile.RecordName, &r) == nil && r.Trial != nil:
		return "a new nucleus is on trial"
	}
	return ""
}

// assignments is the control plane whose answers the updater hears as well.
type assignments struct {
	reconcile.Cloud
	update *selfupdate.Updater
}

// Core tells the control plane of the agent, and the updater what it offers.
func (c assignments) Core(ctx context.Context, q protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	q.Agent = c.update.About()
	a, err := c.Cloud.Core(ctx, q)
	if err == nil {
		c.update.Assigned(a.Agent)
	}
	return a, err
}

// Update hands the release in file to the agent in root, or with dryRun says only
// whether it could.
func Update(w io.Writer, root, file string, dryRun bool) error {
	b, err := selfupdate.Bring(root, file, platform, dryRun)
	if err != nil {
		return err
	}
	next := "the agent takes it within a minute, or when it is started next"
	if dryRun {
		next = "nothing was changed"
	}
	_, err = fmt.Fprintf(w, "%s %s for %s, signed with key %s: good; %s\n", signed.Program, b.Version, b.Platform, b.KeyID, next)
	return err
}

// UpdateStatus writes which program is the agent in root, and how its updates
// stand. version is of the packaged agent.
func UpdateStatus(w io.Writer, root, version string) error {
	return selfupdate.Status(w, root, plainVersion(version))
}

// AddUpdateKey makes the agent in root trust releases signed with key.
func AddUpdateKey(w io.Writer, root, key string) error {
	k, err := selfupdate.AddKey(root, key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "key %s is trusted\n", k.ID)
	return err
}

// RemoveUpdateKey takes the trust back.
func RemoveUpdateKey(w io.Writer, root, id string) error {
	if err := selfupdate.RemoveKey(root, id); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "key %s is not trusted any more\n", strings.ToUpper(id))
	return err
}

// UpdateKeys writes the keys that the agent in root trusts.
func UpdateKeys(w io.Writer, root string) error {
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	keys, err := selfupdate.Keys(root)
	for _, k := range keys {
		fmt.Fprintf(w, "%s  %s  %s\n", k.ID, k.Key, k.Source)
	}
	if len(keys) == 0 && err == nil {
		fmt.Fprintln(w, "no update key is trusted; the agent does not update itself")
	}
	return err
}
