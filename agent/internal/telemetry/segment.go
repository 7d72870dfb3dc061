package telemetry

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/ggfleet/ggfleet/shared/fault"
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

// parsed is what a segment file holds: whole records with rising sequences, and
// how many bytes of it are good.
type parsed struct {
	header header
	last   uint64 // sequence of the last good record, header.base-1 when there is none
	ends   []int  // where each good record ends
	seqs   []uint64
	good   int
}

// parseSegment reads a whole segment and stops at the first record that is cut,
// damaged or out of order. The error, of kind fault.Invalid, says that there is
// no header to trust.
func parseSegment(b []byte) (parsed, error) {
	h, ok := parseHeader(b)
	if !ok || h.base == 0 || h.base > maxSequence {
		return parsed{}, fault.New(fault.Invalid, "no segment header")
	}
	p := parsed{header: h, last: h.base - 1, good: headerSize}
	for {
		r, n, ok := parseRecord(b[p.good:])
		if !ok || r.Sequence <= p.last || r.Sequence > maxSequence {
			return p, nil
		}
		p.good += n
		p.last = r.Sequence
		p.ends = append(p.ends, p.good)
		p.seqs = append(p.seqs, r.Sequence)
	}
}
