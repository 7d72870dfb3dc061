package telemetry

import (
	"bytes"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// SegmentIsSound parses b as a segment and reports whether what it found can be
// relied on: records that encode again to themselves, with rising sequences,
// one behind the other.
func SegmentIsSound(b []byte) bool {
	p := parseSegment(b)
	last, at := uint64(0), 0
	for i := range p.seqs {
		r, n, ok := parseRecord(b[p.starts[i]:])
		if !ok || r.Sequence != p.seqs[i] || r.Sequence <= last || p.starts[i] < at || p.starts[i]+n != p.ends[i] {
			return false
		}
		if !bytes.Equal(r.append(nil), b[p.starts[i]:p.ends[i]]) {
			return false
		}
		last, at = r.Sequence, p.ends[i]
	}
	return p.good <= len(b) && at <= p.good && p.last() >= last && p.torn == (p.good < len(b))
}

// FailWrites makes every write of the spool end with what fail returns, if that
// is not nil.
func (s *Spool) FailWrites(fail func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// Notable and Fitting are the rules of what is told.
func Notable(said, now protocol.HealthReport) bool { return notable(said, now) }

// Fitting is the part of a list that is told.
func Fitting(list []protocol.LocalComponent) []protocol.LocalComponent { return fitting(list) }

// MemoryBytes bounds what is held for a disk that takes nothing.
const MemoryBytes = memoryBytes
