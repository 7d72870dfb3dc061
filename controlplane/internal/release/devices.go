package release

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Offer keeps what the agent of a device says of itself, and returns the release
// that it is offered, nil for none. It reads memory, which has all that any replica
// has done by then, and writes what is new.
func (s *Service) Offer(ctx context.Context, subject protocol.Subject, q protocol.AssignmentQuery) (*protocol.AgentRelease, error) {
	if !s.loaded() || q.Agent.Version == "" {
		return nil, nil //nolint:nilnil // no offer is no failure
	}
	// The notice that made it ask may have been faster than the watch, and what it is
	// answered now is good for an hour.
	if err := s.fresh(ctx); err != nil {
		return nil, err
	}
	if err := s.hear(ctx, subject, q); err != nil {
		// That it is not known what the device said must not keep it from its work.
		s.log.WarnContext(ctx, "what an agent says of its version is not stored", logx.Thing, subject.Name, logx.Err, err)
	}
	return s.best(subject.Name, q), nil
}

// best is the latest version that the device may have and does not.
func (s *Service) best(device string, q protocol.AssignmentQuery) (best *protocol.AgentRelease) {
	now := s.cfg.Now()
	rollouts, _ := s.rollouts.Range("", 0, func(_ string, r *Rollout) bool { return r.State == Active })
	for _, r := range rollouts {
		version := r.Key[len(rolloutPrefix):]
		wait, ok := r.Value.admits(version, device, now)
		if !ok || best != nil && !later(version, best.Version) {
			continue
		}
		o, st, ok := s.binary(version, q.Platform)
		if ok && st.Replaces(q.Agent.Version) {
			o.WaitSeconds = int(math.Ceil(wait.Seconds()))
			best = &o
		}
	}
	return best
}

// binary returns what devices of a platform are offered of a version.
func (s *Service) binary(version, platform string) (o protocol.AgentRelease, st signed.Statement, ok bool) {
	name := binaryName(version, platform)
	f, _, ok := s.files.Get(fileKey(version, name))
	if !ok {
		return o, st, false
	}
	sig, _, ok := s.files.Get(fileKey(version, name+signatureSuffix))
	if !ok {
		return o, st, false
	}
	parsed, err := signed.ParseSignature(sig.Signature)
	return protocol.AgentRelease{
		Version: version, Platform: platform, Digest: f.Digest, Size: f.Size, Signature: sig.Signature,
	}, parsed.Statement, err == nil
}

// hear stores what the agent said if it is new, and with it, in one commit,
// counts its failure.
func (s *Service) hear(ctx context.Context, subject protocol.Subject, q protocol.AssignmentQuery) error {
	key := deviceKey(subject.Name)
	said := Device{Name: subject.Name, Role: subject.Role, Platform: q.Platform, Version: q.Agent.Version, Update: q.Agent.Update, At: s.cfg.Now().UTC()}
	if old, _, ok := s.devices.Get(key); ok && nothingNew(*old, said) {
		return nil
	}
	if !s.heard.Allow(subject.Name, s.cfg.Now()) {
		return nil // it says so again when it asks the next time
	}
	for range 16 {
		old, err := state.ReadOr[Device](ctx, s.cfg.Store, key)
		if err != nil {
			return err
		}
		if old.Rev != 0 && nothingNew(old.Value, said) {
			return nil
		}
		said.Counted = old.Value.Counted
		b := state.NewBatch(state.StepRelease).If(key, old.Rev)
		if said.Update.State.Failure() {
			if err := s.count(ctx, b, &said); err != nil {
				return err
			}
		}
		b.Put(key, said)
		if _, err = s.cfg.Store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New(fault.Unavailable, "too many devices say something at once")
}

// How often what one agent says of itself is written down, if it says something else
// each time. An update is a handful.
const (
	hearRate  = 1.0 / 60 // a second
	hearBurst = 20
	hearKeep  = 10_000 // agents that are remembered at least
)

// maxCounted is how many rollouts are remembered in whose failures a device is.
const maxCounted = 8

// reasonEvery is how often another reason for the same state is stored: it may
// hold a number that changes each time.
const reasonEvery = 10 * time.Minute

func nothingNew(old, said Device) bool {
	at := said.At
	said.At, said.Counted = old.At, old.Counted
	if at.Sub(old.At) < reasonEvery {
		said.Update.Reason = old.Update.Reason
	}
	return old == said
}

// count adds to b that a device failed with a release, and stops the release when
// it is one too many.
func (s *Service) count(ctx context.Context, b *state.Batch, d *Device) error {
	if checkVersion(d.Update.Version) != nil {
		return nil
	}
	key := rolloutKey(d.Update.Version)
	r, err := state.ReadOr[Rollout](ctx, s.cfg.Store, key)
	if err != nil || r.Rev == 0 {
		return err
	}
	this := d.Update.Version + " " + r.Value.Begun.Format(time.RFC3339Nano)
	counted := strings.FieldsFunc(d.Counted, func(r rune) bool { return r == ',' })
	if slices.Contains(counted, this) {
		return nil
	}
	d.Counted = strings.Join(append(counted[max(0, len(counted)-maxCounted+1):], this), ",")
	r.Value.Failures++
	if r.Value.State == Active && r.Value.Failures >= r.Value.MaxFailures {
		now := s.cfg.Now().UTC()
		r.Value.From, r.Value.Since = r.Value.Share(now), now
		r.Value.State = Stopped
		r.Value.Reason = fmt.Sprintf("%d devices failed, the last of them %s: %s", r.Value.Failures, d.Name, d.Update.Reason)
		s.log.WarnContext(ctx, "release is stopped", "version", d.Update.Version, "reason", r.Value.Reason)
		event.Add(b, event.AgentReleaseStopped, "", now, stoppedDetail{Version: d.Update.Version, Failures: r.Value.Failures, Reason: r.Value.Reason})
	}
	b.If(key, r.Rev).Put(key, r.Value)
	return nil
}

// stoppedDetail is the detail of the event of a release that was stopped.
type stoppedDetail struct {
	Version  string `json:"version"`
	Failures int    `json:"failures"`
	Reason   string `json:"reason"`
}

// Forget removes what the agent of a device said; none is no error.
func (s *Service) Forget(ctx context.Context, device string) error {
	_, err := s.cfg.Store.Commit(ctx, state.NewBatch(state.StepRelease).Delete(deviceKey(device)))
	return err
}

// Open returns the binary with this digest of a release that is offered, for
// devices, or fault.NotFound. The caller closes the reader.
func (s *Service) Open(ctx context.Context, digest string) (object.Reader, object.Info, error) {
	if !s.loaded() {
		return nil, object.Info{}, fault.New(fault.Unavailable, "releases are still being read")
	}
	if err := s.fresh(ctx); err != nil {
		return nil, object.Info{}, err
	}
	list, _ := s.files.Range("", 1, func(_ string, f *File) bool { return f.Platform != "" && f.Digest == digest && s.active(f.Version) })
	if len(list) == 0 {
		return nil, object.Info{}, fault.New(fault.NotFound, "no release that is offered has a binary with digest %.80q", digest)
	}
	return s.cfg.Objects.Open(ctx, s.objectKey(list[0].Value.Version, list[0].Value.Name))
}

func (s *Service) active(version string) bool {
	r, _, ok := s.rollouts.Get(rolloutKey(version))
	return ok && r.State == Active
}

// Install returns a file for technicians: of the given version, or with none of
// the latest that is offered to devices; while none ever was, of the latest that
// is stored. The caller closes the reader.
func (s *Service) Install(ctx context.Context, version, name string) (object.Reader, object.Info, error) {
	missing := fault.New(fault.NotFound, "no file %.140q can be installed from here", name)
	if checkFile(name) != nil || !s.loaded() {
		return nil, object.Info{}, missing
	}
	if version == "" {
		if version = s.current(); version == "" {
			return nil, object.Info{}, missing
		}
	}
	f, _, ok := s.files.Get(fileKey(version, name))
	if !ok {
		return nil, object.Info{}, missing
	}
	return s.cfg.Objects.Open(ctx, s.objectKey(f.Version, f.Name))
}

// current is the version that technicians get.
func (s *Service) current() (version string) {
	active, _ := s.rollouts.Range("", 0, func(_ string, r *Rollout) bool { return r.State == Active })
	for _, r := range active {
		if v := r.Key[len(rolloutPrefix):]; version == "" || later(v, version) {
			version = v
		}
	}
	if version != "" || s.rollouts.Len() > 0 {
		return version
	}
	files, _ := s.files.Range("", 0, nil)
	for _, f := range files {
		if version == "" || later(f.Value.Version, version) {
			version = f.Value.Version
		}
	}
	return version
}
