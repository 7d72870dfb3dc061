package telemetry

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// A segment file is a header and records behind each other, all numbers
// big-endian:
//
//	header  magic 8 | base 8 | dropped 8 | CRC-32C of these 4
//	record  length of body 4 | CRC-32C of body 4 | body
//	body    sequence 8 | length of kind 1 | kind | payload
//
// base is the sequence of the next report when the segment was begun, dropped
// the number of reports given up until then.
const (
	magic      = "GGFSPL01"
	headerSize = 28
	recordHead = 8
	minBody    = 9
	maxBody    = minBody + 255 + protocol.MaxAgentMessage

	maxSequence = 1 << 62 // a number beyond is damage
)

type header struct{ base, dropped uint64 }

// Record is one report that waits to be sent.
type Record struct {
	Sequence uint64
	Kind     string // a protocol.Report… constant
	Payload  []byte
}

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (h header) append(b []byte) []byte {
	at := len(b)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, h.base)
	b = binary.BigEndian.AppendUint64(b, h.dropped)
	return binary.BigEndian.AppendUint32(b, crc(b[at:]))
}

func (r Record) append(b []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	b = append(b, byte(len(r.Kind))) //nolint:gosec // at most 255: the spool checks
	b = append(b, r.Kind...)
	b = append(b, r.Payload...)
	body := b[at+recordHead:]
	binary.BigEndian.PutUint32(b[at:], uint32(len(body))) //nolint:gosec // at most maxBody
	binary.BigEndian.PutUint32(b[at+4:], crc(body))
	return b
}

func parseHeader(b []byte) (header, bool) {
	if len(b) < headerSize || string(b[:8]) != magic || binary.BigEndian.Uint32(b[24:]) != crc(b[:24]) {
		return header{}, false
	}
	return header{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, true
}

// parseRecord reads the record at the start of b. size is how many bytes it
// takes; ok is false for one that is cut or damaged.
func parseRecord(b []byte) (r Record, size int, ok bool) {
	if len(b) < recordHead {
		return r, 0, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n < minBody || n > maxBody || n > int64(len(b)-recordHead) {
		return r, 0, false
	}
	body := b[recordHead : recordHead+n]
	if binary.BigEndian.Uint32(b[4:]) != crc(body) {
		return r, 0, false
	}
	kind := int(body[8])
	if minBody+kind > len(body) {
		return r, 0, false
	}
	r = Record{Sequence: binary.BigEndian.Uint64(body), Kind: string(body[minBody : minBody+kind]), Payload: body[minBody+kind:]}
	return r, recordHead + int(n), true
}

// parsed is what a segment file holds: whole records with rising sequences.
type parsed struct {
	header  header // zero when it cannot be trusted
	starts  []int  // where each good record starts, and
	ends    []int  // where it ends
	seqs    []uint64
	good    int  // bytes up to the end of the last good record
	damaged int  // runs of bytes before good that are no record, and a bad header
	torn    bool // bytes follow what is good; only the newest segment may end so
}

// parseSegment reads a whole segment. It passes over what is damaged and goes on
// with the next record that is whole: a flipped bit costs one record, not all
// that follow. A tail that a power cut has torn is no damage.
func parseSegment(b []byte) parsed {
	p := parsed{good: min(headerSize, len(b))}
	at, last, bad := 0, uint64(0), false
	if h, ok := parseHeader(b); ok && h.base > 0 && h.base <= maxSequence {
		p.header, last, at = h, h.base-1, headerSize
	} else {
		p.damaged = 1
		bad = true
	}
	for at < len(b) {
		r, n, ok := parseRecord(b[at:])
		if !ok || r.Sequence <= last || r.Sequence > maxSequence {
			at, bad = at+1, true
			continue
		}
		if bad && p.good > 0 && (p.header.base > 0 || len(p.seqs) > 0) {
			p.damaged++
		}
		bad = false
		p.starts, p.ends, p.seqs = append(p.starts, at), append(p.ends, at+n), append(p.seqs, r.Sequence)
		at += n
		p.good, last = at, r.Sequence
	}
	p.torn = p.good < len(b)
	return p
}

// first and last are the sequences that the segment uses up; 0 for one that
// holds nothing at all.
func (p *parsed) first() uint64 {
	if p.header.base > 0 || len(p.seqs) == 0 {
		return p.header.base
	}
	return p.seqs[0]
}

func (p *parsed) last() uint64 {
	if n := len(p.seqs); n > 0 {
		return p.seqs[n-1]
	}
	return max(p.header.base, 1) - 1
}

// above forgets the records whose sequences are not above after.
func (p *parsed) above(after uint64) {
	i, _ := slices.BinarySearch(p.seqs, after+1)
	p.starts, p.ends, p.seqs = p.starts[i:], p.ends[i:], p.seqs[i:]
}

// add notes a record of n bytes that was appended.
func (p *parsed) add(sequence uint64, n int) {
	p.starts, p.ends, p.seqs = append(p.starts, p.good), append(p.ends, p.good+n), append(p.seqs, sequence)
	p.good += n
}
