package selfupdate

import (
	"context"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// What the property test drives.
func (r *Record) Next(base string, count bool) (*Slot, bool) { return r.next(base, count) }
func (r *Record) Begin(t Trial)                              { r.begin(t) }
func (r *Record) Prove()                                     { r.prove() }
func (r *Record) GiveUp(reason string, reached bool)         { r.giveUp(reason, reached) }
func (r *Record) Judge(there bool)                           { r.judge(there) }
func (r *Record) Again(n protocol.NucleusState)              { r.again(n) }
func (r *Record) Unusable(digest, reason string)             { r.unusable(digest, reason) }
func (r *Record) Withdraw()                                  { r.withdraw() }
func (r Record) Clone() Record                               { return r.clone() }
func (r *Record) IsRejected(digest string) (string, bool)    { return r.rejected(digest) }
func (s Slot) Overtaken(base string) bool                    { return s.overtaken(base) }
func (u *Updater) Turn(ctx context.Context) error            { return u.turn(ctx) }
func (u *Updater) Prune() error                              { return u.prune() }

// The bounds of a trial.
const (
	MaxStarts = maxStarts
	MaxSilent = maxSilent
	MaxRounds = maxRounds
	MaxEnds   = maxEnds

	ReleaseVar = releaseVar
)
