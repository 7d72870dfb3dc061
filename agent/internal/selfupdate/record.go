package selfupdate

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// RecordName is the record's file in the agent's folder.
const RecordName = "update.json"

// Bounds of a trial.
const (
	maxStarts   = 3  // of a release on trial, in one round
	maxSilent   = 3  // rounds without the control plane although the old agent then reached it
	maxRounds   = 10 // rounds for whatever reason
	maxEnds     = 10 // starts in a row after which a proven release did not run for long
	maxRejected = 16 // that are remembered
)

// format is the version of the record. It grows when an older agent must not
// touch what is in it; members are only ever added, at the top, and an agent
// keeps those that it does not know.
const format = 1

// Slot is a release on the device.
type Slot struct {
	Version string `json:"version"`
	Digest  string `json:"digest"` // lower-case hex SHA-256 of the binary
	Base    string `json:"base"`   // the packaged agent when this was chosen
	Starts  int    `json:"starts"` // since it last ran for long
}

// Name is the slot's folder.
func (s Slot) Name() string { return s.Version + "-" + s.Digest[:min(8, len(s.Digest))] }

// Trial is a release that is to prove itself.
type Trial struct {
	Slot

	From    string                `json:"from"`              // the version that it replaces
	Nucleus protocol.NucleusState `json:"nucleus,omitempty"` // of the old agent: to be reached again
	Alone   bool                  `json:"alone,omitempty"`   // the old agent had no control plane: proof goes without
	Local   bool                  `json:"local,omitempty"`   // brought by a technician

	Rounds  int    `json:"rounds"`            // begun
	Silent  int    `json:"silent,omitempty"`  // of them, without the control plane although it was there
	Waiting bool   `json:"waiting,omitempty"` // not to be started now
	Judged  bool   `json:"judged,omitempty"`  // the last round is in Silent, if it belongs there
	Reason  string `json:"reason,omitempty"`  // why the last round ended
}

// Rejection is a release that is not tried again.
type Rejection struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Reason  string `json:"reason"`
}

// Record says which program is the agent.
type Record struct {
	Format    int                  `json:"format"`
	Committed *Slot                `json:"committed,omitempty"` // nil: the packaged agent
	Trial     *Trial               `json:"trial,omitempty"`
	Rejected  []Rejection          `json:"rejected,omitempty"` // newest last
	Last      protocol.AgentUpdate `json:"last,omitzero"`      // how the last update ended

	rest map[string]json.RawMessage // members that a later agent added
}

type plainRecord Record

// UnmarshalJSON keeps what it does not know.
func (r *Record) UnmarshalJSON(b []byte) error {
	var p plainRecord
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	*r = Record(p)
	if err := json.Unmarshal(b, &r.rest); err != nil {
		return err
	}
	for _, known := range []string{"format", "committed", "trial", "rejected", "last"} {
		delete(r.rest, known)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON kept.
func (r Record) MarshalJSON() ([]byte, error) {
	r.Format = max(r.Format, format)
	b, err := json.Marshal(plainRecord(r))
	if err != nil || len(r.rest) == 0 {
		return b, err
	}
	all := maps.Clone(r.rest)
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

func (r Record) clone() Record {
	if r.Committed != nil {
		c := *r.Committed
		r.Committed = &c
	}
	if r.Trial != nil {
		t := *r.Trial
		r.Trial = &t
	}
	r.Rejected = slices.Clone(r.Rejected)
	return r
}

func load(dir *localstate.Dir) (Record, error) {
	var r Record
	err := dir.ReadJSON(RecordName, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	return r, err
}

// next decides which program is to run, nil for the packaged agent of version
// base, and counts a start. Without count, a trial that could not be counted is
// left out.
func (r *Record) next(base string, count bool) (s *Slot, trial bool) {
	if t := r.Trial; t != nil && t.overtaken(base) {
		r.withdraw()
	}
	if c := r.Committed; c != nil && c.overtaken(base) {
		r.Committed = nil
	}
	if t := r.Trial; t != nil && !t.Waiting {
		switch {
		case t.Starts >= maxStarts:
			r.reject("it was started three times and each time ended before it had proven itself")
		case count:
			t.Starts++
			return &t.Slot, true
		}
	}
	c := r.Committed
	if c == nil {
		return nil, false
	}
	if c.Starts >= maxEnds {
		r.drop(*c, "it ended ten times in a row soon after its start")
		return nil, false
	}
	if count {
		c.Starts++
	}
	return c, false
}

// overtaken reports whether the packaged agent, of version base, is to run
// instead of s: somebody has installed another one since, and not an older.
func (s Slot) overtaken(base string) bool {
	if base == s.Version {
		return true
	}
	if base == s.Base {
		return false
	}
	b, errBase := semver.Parse(base)
	v, err := semver.Parse(s.Version)
	return errBase != nil || err != nil || b.Compare(v) > 0
}

// begin puts a release on trial.
func (r *Record) begin(t Trial) {
	t.Rounds, t.Starts = 1, 0
	r.Rejected = slices.DeleteFunc(r.Rejected, func(x Rejection) bool { return x.Digest == t.Digest })
	r.Trial = &t
	r.Last = t.update(protocol.UpdateTrial, "")
}

// prove makes the release on trial the agent.
func (r *Record) prove() {
	s := r.Trial.Slot
	s.Starts = 0
	r.Last = r.Trial.update(protocol.UpdateCommitted, "")
	r.Committed, r.Trial = &s, nil
}

// giveUp ends a round: for good if the control plane was reached, else until it
// is known whether it was there.
func (r *Record) giveUp(reason string, reached bool) {
	if reached {
		r.reject(reason)
		return
	}
	t := r.Trial
	t.Waiting, t.Judged, t.Reason = true, false, reason
	r.Last = t.update(protocol.UpdateWaiting, reason)
}

// judge says, once for each round, whether the control plane was there when the
// release on trial did not reach it.
func (r *Record) judge(there bool) {
	t := r.Trial
	if t.Judged {
		return
	}
	t.Judged = true
	if there {
		t.Silent++
	}
	if t.Silent >= maxSilent || t.Rounds >= maxRounds {
		r.reject(t.Reason)
	}
}

// again begins another round.
func (r *Record) again(nucleus protocol.NucleusState) {
	t := r.Trial
	t.Waiting, t.Judged, t.Starts, t.Nucleus = false, false, 0, nucleus
	t.Rounds++
	r.Last = t.update(protocol.UpdateTrial, t.Reason)
}

// withdraw ends the trial with nothing said against the release.
func (r *Record) withdraw() { r.Trial, r.Last = nil, protocol.AgentUpdate{} }

// reject ends the trial; the release is not tried again.
func (r *Record) reject(reason string) {
	t := *r.Trial
	r.Trial = nil
	r.remember(t.Slot, reason)
	r.Last = t.update(protocol.UpdateFailed, reason)
}

// drop goes back from a proven release to the packaged agent.
func (r *Record) drop(s Slot, reason string) {
	r.Committed = nil
	r.remember(s, reason)
	r.Last = protocol.AgentUpdate{Version: s.Version, Digest: s.Digest, State: protocol.UpdateFailed, Reason: fault.Clip(reason, protocol.MaxUpdateReason)}
}

// unusable takes the slot with the digest out: its file is damaged or cannot be
// executed.
func (r *Record) unusable(digest, reason string) {
	if t := r.Trial; t != nil && t.Digest == digest {
		r.Trial = nil
		r.Last = t.update(protocol.UpdateBlocked, reason)
	}
	if c := r.Committed; c != nil && c.Digest == digest {
		r.Committed = nil
		r.Last = protocol.AgentUpdate{Version: c.Version, Digest: c.Digest, State: protocol.UpdateBlocked, Reason: fault.Clip(reason, protocol.MaxUpdateReason)}
	}
}

func (r *Record) remember(s Slot, reason string) {
	r.Rejected = append(r.Rejected, Rejection{Version: s.Version, Digest: s.Digest, Reason: fault.Clip(reason, protocol.MaxUpdateReason)})
	if n := len(r.Rejected); n > maxRejected {
		r.Rejected = r.Rejected[n-maxRejected:]
	}
}

// rejected returns why the release with the digest is not tried.
func (r *Record) rejected(digest string) (string, bool) {
	for _, x := range r.Rejected {
		if x.Digest == digest {
			return x.Reason, true
		}
	}
	return "", false
}

func (t Trial) update(s protocol.UpdateState, reason string) protocol.AgentUpdate {
	return protocol.AgentUpdate{Version: t.Version, Digest: t.Digest, State: s, Reason: fault.Clip(reason, protocol.MaxUpdateReason)}
}
