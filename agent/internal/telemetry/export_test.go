package telemetry

import "bytes"

// SegmentIsSound parses b as a segment and reports whether what it found can be
// relied on: good bytes that encode again to themselves, with rising sequences.
func SegmentIsSound(b []byte) bool {
	p, err := parseSegment(b)
	if err != nil {
		return true // nothing is used
	}
	again := p.header.append(nil)
	last := p.header.base - 1
	for i := range p.seqs {
		r, _, ok := parseRecord(b[len(again):])
		if !ok || r.Sequence != p.seqs[i] || r.Sequence <= last {
			return false
		}
		last = r.Sequence
		again = r.append(again)
		if len(again) != p.ends[i] {
			return false
		}
	}
	return len(again) == p.good && p.last == last && bytes.Equal(again, b[:p.good])
}
