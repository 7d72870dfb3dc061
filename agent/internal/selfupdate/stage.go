package selfupdate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	noKeys = "no update key is trusted on this device; 'ggfleet-agent update-key add' adds one"
	// reserve is what a download leaves free, in bytes.
	reserve = 16 << 20
	// letBe is for how long a release that was refused, or could not be run, is not
	// looked at again.
	letBe = time.Hour
)

// candidate is a release that may be taken.
type candidate struct {
	protocol.AgentRelease
	local bool
	fetch func(ctx context.Context, f *os.File) error // appends what f lacks and syncs it
}

func (u *Updater) offered(o protocol.AgentRelease) candidate {
	return candidate{o, false, func(ctx context.Context, f *os.File) error { return u.cfg.Cloud.Release(ctx, o, f) }}
}

// refusal is an error that ends, or delays, the taking of a release with a
// state to report.
type refusal struct {
	state protocol.UpdateState
	error
}

func (e refusal) Unwrap() error { return e.error }

func refuse(err error) error  { return refusal{protocol.UpdateRefused, err} }
func blocked(err error) error { return refusal{protocol.UpdateBlocked, err} }

// take stages c if it may replace what runs, and begins its trial.
func (u *Updater) take(ctx context.Context, r Record, c candidate) error {
	at := c.Digest + c.Signature
	if time.Now().Before(u.pause[at]) && !u.roomNow(at) {
		return nil
	}
	if !c.local {
		if reason, ok := r.rejected(c.Digest); ok {
			u.say(protocol.AgentUpdate{Version: c.Version, Digest: c.Digest, State: protocol.UpdateFailed, Reason: reason})
			return nil
		}
	}
	sig, err := u.admit(c.AgentRelease)
	if err == nil && !sig.Statement.Replaces(u.cfg.Version) {
		if c.local {
			err = refuse(fault.New(fault.Invalid, "release %s may not replace %s; going back needs a signature that says over=%s", c.Version, u.cfg.Version, u.cfg.Version))
		} else {
			return nil // this device is ahead of what is offered
		}
	}
	s := Slot{Version: c.Version, Digest: c.Digest, Base: u.cfg.Running.Base}
	if err == nil {
		err = u.stage(ctx, s, sig, c)
	}
	if err != nil {
		return u.failed(ctx, r, at, c, err)
	}
	now := u.look()
	r.begin(Trial{Slot: s, From: u.cfg.Version, Nucleus: now.nucleus, Alone: now.reached.IsZero(), Local: c.local})
	if err := u.store(ctx, localstate.UpdateTrial, r); err != nil {
		return err
	}
	if c.local {
		u.clearInbox()
	}
	u.backoff.Reset()
	return u.begin(ctx, r)
}

// failed says why c is not taken and decides when it is looked at again.
func (u *Updater) failed(ctx context.Context, r Record, at string, c candidate, err error) error {
	if ctx.Err() != nil {
		return err
	}
	state := protocol.UpdateDownloading
	if x, ok := errors.AsType[refusal](err); ok {
		state = x.state
	}
	wait := letBe
	switch {
	case state != protocol.UpdateRefused:
		wait = u.backoff.Next()
	case c.local:
		u.clearInbox()
	}
	if len(u.pause) > 100 {
		clear(u.pause)
	}
	u.pause[at] = time.Now().Add(wait)
	x := protocol.AgentUpdate{Version: c.Version, Digest: c.Digest, State: state, Reason: fault.Clip(reasonOf(err), protocol.MaxUpdateReason)}
	u.say(x)
	if news := r.Last.Digest != x.Digest || r.Last.State != x.State; news && (state == protocol.UpdateBlocked || state == protocol.UpdateRefused) {
		r.Last = x // for whoever stands at the device: 'update' and 'status' read the record
		if err := u.store(ctx, localstate.UpdateReturn, r); err != nil {
			u.log.WarnContext(ctx, "why a release is not taken is not kept", logx.Err, err)
		}
	}
	return fmt.Errorf("release %s is not taken: %w", c.Version, err)
}

// shortage is a release that there was no room for.
type shortage struct {
	at   string
	need uint64 // bytes
}

// roomNow reports whether there is room now for the release that there was none for.
func (u *Updater) roomNow(at string) bool {
	free, ok := u.cfg.Free()
	if u.short.at != at || !ok || free < u.short.need {
		return false
	}
	u.short = shortage{}
	return true
}

func reasonOf(err error) string {
	if m := fault.Message(err); m != "" {
		return m
	}
	return err.Error()
}

// admit looks, before anything is fetched, whether r can be for this device.
func (u *Updater) admit(r protocol.AgentRelease) (signed.Signature, error) {
	sig, err := signed.ParseSignature(r.Signature)
	if err != nil {
		return sig, refuse(err)
	}
	want := signed.Statement{Version: r.Version, Platform: u.cfg.Platform, Over: sig.Statement.Over}
	if sig.Statement != want {
		return sig, refuse(fault.New(fault.Invalid, "the signature is of %s, but this is offered as %s for %s", sig.Statement, r.Version, u.cfg.Platform))
	}
	if d, err := hex.DecodeString(r.Digest); err != nil || len(d) != sha256.Size || r.Size <= 0 || r.Size > protocol.MaxReleaseFile {
		return sig, refuse(fault.New(fault.Invalid, "digest %.80q and size %d are not those of a release", r.Digest, r.Size))
	}
	keys, err := Keys(u.cfg.Dir.Site())
	if len(keys) == 0 {
		return sig, refusal{protocol.UpdateOff, errors.Join(fault.New(fault.Denied, noKeys), err)}
	}
	if err := plain(keys).Knows(sig); err != nil {
		return sig, refuse(err)
	}
	return sig, nil
}

// stage puts the binary of c into its slot, whole and verified, and lets it say
// its version.
func (u *Updater) stage(ctx context.Context, s Slot, sig signed.Signature, c candidate) error {
	file := u.cfg.Dir.Path(path.Join(releasesDir, s.Name(), programName))
	if digest, _, err := digestOf(file); err != nil || digest != s.Digest {
		if err := u.fetch(ctx, s, sig, c); err != nil {
			return err
		}
	}
	return u.tryVersion(ctx, file, s)
}

func (u *Updater) fetch(ctx context.Context, s Slot, sig signed.Signature, c candidate) error {
	root, dir := u.cfg.Dir.Root(), path.Join(releasesDir, s.Name())
	part := path.Join(dir, programName+".part")
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return blocked(err)
	}
	u.say(protocol.AgentUpdate{Version: s.Version, Digest: s.Digest, State: protocol.UpdateDownloading})
	f, err := root.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return blocked(err)
	}
	err = u.cfg.Dir.Do(localstate.UpdateDownload, func() error { return u.download(ctx, f, c) })
	if err == nil {
		if err = u.verify(f, sig, c.AgentRelease); err != nil {
			err = errors.Join(err, root.RemoveAll(dir)) // fetched whole next time
		}
	}
	if err != nil {
		return errors.Join(err, f.Close(), u.giveBack(dir, err))
	}
	err = u.cfg.Dir.Do(localstate.UpdateStage, func() error {
		if err := errors.Join(f.Chmod(0o700), f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := root.Rename(part, path.Join(dir, programName)); err != nil {
			return err
		}
		return errors.Join(durable.SyncDir(root, dir), durable.SyncDir(root, releasesDir))
	})
	if err != nil {
		return blocked(errors.Join(err, u.giveBack(dir, err)))
	}
	return nil
}

// download fetches what is missing, if there is room for it.
func (u *Updater) download(ctx context.Context, f *os.File, c candidate) error {
	info, err := f.Stat()
	if err != nil {
		return blocked(err)
	}
	if free, ok := u.cfg.Free(); ok && c.Size-info.Size() > 0 && free < uint64(c.Size-info.Size())+reserve { //nolint:gosec // positive
		u.short = shortage{at: c.Digest + c.Signature, need: uint64(c.Size-info.Size()) + reserve} //nolint:gosec // the same
		return blocked(fault.New(fault.Exhausted, "the disk has %d MiB free; release %s needs %d", free>>20, c.Version, (c.Size+reserve)>>20))
	}
	err = c.fetch(ctx, f)
	if durable.Full(err) || errors.Is(err, syscall.EIO) {
		err = blocked(err)
	}
	return err
}

// giveBack removes the download when it has filled the disk.
func (u *Updater) giveBack(dir string, cause error) error {
	if !durable.Full(cause) {
		return nil
	}
	return u.cfg.Dir.Root().RemoveAll(dir)
}

// verify reads what was fetched once: size, digest and signature must be right.
func (u *Updater) verify(f *os.File, sig signed.Signature, r protocol.AgentRelease) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return blocked(err)
	}
	keys, err := Keys(u.cfg.Dir.Site())
	if err != nil {
		u.log.Warn("keys of updates", logx.Err, err)
	}
	h := sha256.New()
	n := new(counter)
	if err := plain(keys).Verify(io.TeeReader(f, io.MultiWriter(h, n)), sig); err != nil {
		if errors.Is(err, fault.Denied) {
			return refuse(err)
		}
		return blocked(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != r.Digest || int64(*n) != r.Size {
		return refuse(fault.New(fault.Invalid, "the file has SHA-256 %s and %d bytes; announced were %s and %d", got, int64(*n), r.Digest, r.Size))
	}
	return nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// prune removes every slot that the record does not name.
func (u *Updater) prune() error {
	r, err := load(u.cfg.Dir)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	if r.Committed != nil {
		keep[r.Committed.Name()] = true
	}
	if r.Trial != nil {
		keep[r.Trial.Name()] = true
	}
	entries, err := fs.ReadDir(u.cfg.Dir.Root().FS(), releasesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if !keep[e.Name()] {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return u.cfg.Dir.Do(localstate.UpdatePrune, func() error {
		var errs []error
		for _, n := range names {
			errs = append(errs, u.cfg.Dir.Root().RemoveAll(path.Join(releasesDir, n)))
		}
		return errors.Join(errs...)
	})
}
