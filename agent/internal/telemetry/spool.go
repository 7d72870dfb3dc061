package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// DefaultSpoolBytes bounds the spool: about a week of reports at one a minute.
const DefaultSpoolBytes = 4 << 20

const (
	minSpoolBytes = 64 << 10
	segmentSuffix = ".seg"
	ackName       = "acked"
)

// Spool keeps reports on disk until they are acknowledged. It may be used
// concurrently: appended to by one, read by another.
type Spool struct {
	root *os.Root
	dir  string
	max  int64 // bytes of all segments
	each int64 // bytes after which a segment is followed by another

	mu       sync.Mutex // guards what follows
	segments []*segment // oldest first; the last one is appended to
	active   *os.File
	ack      *os.File
	next     uint64 // sequence of the next report
	dropped  uint64 // reports given up, over the life of the device
	acked    uint64 // highest acknowledged sequence
}

// segment is one file. ends and seqs tell where its records are.
type segment struct {
	name string
	parsed
}

// OpenSpool opens the spool in dir below root and makes it when it is missing.
// A record that a power cut has torn is cut off. max is the bound in bytes (0:
// DefaultSpoolBytes, at least 64 KiB).
func OpenSpool(root *os.Root, dir string, maxBytes int64) (*Spool, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultSpoolBytes
	}
	maxBytes = max(maxBytes, minSpoolBytes)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Spool{root: root, dir: dir, max: maxBytes, each: maxBytes / 8, next: 1}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the spool: %w", err), s.Close())
	}
	return s, nil
}

func (s *Spool) load() error {
	entries, err := fs.ReadDir(s.root.FS(), s.dir) // sorted, and names are of one length
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), segmentSuffix) {
			continue
		}
		name := path.Join(s.dir, e.Name())
		b, err := s.readSegment(name)
		if err != nil {
			return err
		}
		p, err := parseSegment(b)
		if err != nil || p.header.base < s.next { // torn while it was made, or not ours: it holds nothing
			if err := s.root.Remove(name); err != nil {
				return err
			}
			continue
		}
		s.next = p.last + 1
		s.dropped = max(s.dropped, p.header.dropped)
		s.segments = append(s.segments, &segment{name: name, parsed: p})
	}
	if err := s.loadAck(); err != nil {
		return err
	}
	if len(s.segments) == 0 {
		return s.roll()
	}
	last := s.segments[len(s.segments)-1]
	if s.active, err = s.root.OpenFile(last.name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	return s.active.Truncate(int64(last.good))
}

func (s *Spool) readSegment(name string) ([]byte, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, s.max+maxBody+recordHead))
}

// loadAck reads the last acknowledged sequence. It is written in place and not
// synced: when it is lost, reports are sent twice, which readers must bear.
func (s *Spool) loadAck() error {
	var err error
	if s.ack, err = s.root.OpenFile(path.Join(s.dir, ackName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	var b [12]byte
	if _, err := s.ack.ReadAt(b[:], 0); err == nil && binary.BigEndian.Uint32(b[8:]) == crc(b[:8]) {
		s.acked = binary.BigEndian.Uint64(b[:8])
	}
	s.next = max(s.next, s.acked+1)
	return nil
}

// roll begins a new segment.
func (s *Spool) roll() error {
	name := path.Join(s.dir, fmt.Sprintf("%020d%s", s.next, segmentSuffix))
	h := header{base: s.next, dropped: s.dropped}
	if err := durable.WriteFile(s.root, name, h.append(nil), 0o600); err != nil {
		return err
	}
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if s.active != nil {
		_ = s.active.Close() // every record in it is synced
	}
	s.active = f
	s.segments = append(s.segments, &segment{name: name, parsed: parsed{header: h, last: s.next - 1, good: headerSize}})
	return nil
}

// Append stores the report that build makes for the sequence number it is
// given, and returns once it is on disk. When the spool is full the oldest
// reports are dropped for it. On an error the sequence number stays used, so
// that the gap tells of the loss.
func (s *Spool) Append(kind string, build func(sequence uint64) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Record{Sequence: s.next, Kind: kind}
	s.next++
	err := s.appendLocked(&r, build)
	if err != nil {
		s.dropped++
		return fmt.Errorf("storing report %d: %w", r.Sequence, err)
	}
	return nil
}

func (s *Spool) appendLocked(r *Record, build func(uint64) ([]byte, error)) error {
	var err error
	if r.Payload, err = build(r.Sequence); err != nil {
		return err
	}
	if len(r.Payload) > protocol.MaxAgentMessage || len(r.Kind) > 255 {
		return fault.New(fault.TooLarge, "a %s report of %d bytes; at most %d are allowed", r.Kind, len(r.Payload), protocol.MaxAgentMessage)
	}
	b := r.append(nil)
	if err := s.makeRoom(int64(len(b))); err != nil {
		return err
	}
	last := s.segments[len(s.segments)-1]
	if _, err = s.active.Write(b); err == nil {
		err = s.active.Sync()
	}
	if err != nil {
		return errors.Join(err, s.active.Truncate(int64(last.good)))
	}
	last.good += len(b)
	last.last = r.Sequence
	last.ends = append(last.ends, last.good)
	last.seqs = append(last.seqs, r.Sequence)
	return nil
}

// makeRoom begins a new segment when the active one is long enough, and drops
// the oldest ones while n more bytes would not fit.
func (s *Spool) makeRoom(n int64) error {
	if last := s.segments[len(s.segments)-1]; len(last.seqs) > 0 && int64(last.good)+n > s.each {
		s.next-- // the new segment begins with the report that makes it necessary
		err := s.roll()
		s.next++
		if err != nil {
			return err
		}
	}
	for len(s.segments) > 1 && s.size()+n > s.max {
		for _, q := range s.segments[0].seqs {
			if q > s.acked {
				s.dropped++
			}
		}
		if err := s.removeFirst(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) size() (n int64) {
	for _, g := range s.segments {
		n += int64(g.good)
	}
	return n
}

func (s *Spool) removeFirst() error {
	if err := s.root.Remove(s.segments[0].name); err != nil {
		return err
	}
	s.segments = s.segments[1:]
	return nil
}

// Next returns the oldest report that is not acknowledged, and false when there
// is none. With an error of kind fault.Invalid it was damaged on disk: its
// sequence is set, for Skip.
func (s *Spool) Next() (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		i, found := slices.BinarySearch(g.seqs, s.acked+1)
		if !found && i == len(g.seqs) {
			continue
		}
		from := headerSize
		if i > 0 {
			from = g.ends[i-1]
		}
		r, err := s.read(g, from, g.ends[i]-from)
		r.Sequence = g.seqs[i]
		return r, true, err
	}
	return Record{}, false, nil
}

func (s *Spool) read(g *segment, from, n int) (Record, error) {
	f, err := s.root.Open(g.name)
	if err != nil {
		return Record{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(from)); err != nil {
		return Record{}, err
	}
	r, _, ok := parseRecord(b)
	if !ok {
		return Record{}, fault.New(fault.Invalid, "a report in %s was damaged on disk", g.name)
	}
	return r, nil
}

// Ack forgets all reports up to sequence and frees the room of segments that
// hold no other.
func (s *Spool) Ack(sequence uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence <= s.acked || sequence >= s.next {
		return nil
	}
	s.acked = sequence
	b := binary.BigEndian.AppendUint64(nil, sequence)
	b = binary.BigEndian.AppendUint32(b, crc(b))
	if _, err := s.ack.WriteAt(b, 0); err != nil {
		return fmt.Errorf("storing what is acknowledged: %w", err)
	}
	for len(s.segments) > 1 && s.segments[0].last <= s.acked {
		if err := s.removeFirst(); err != nil {
			return err
		}
	}
	return nil
}

// Skip gives up the report with the given sequence, which is the oldest.
func (s *Spool) Skip(sequence uint64) error {
	s.mu.Lock()
	s.dropped++
	s.mu.Unlock()
	return s.Ack(sequence)
}

// Waiting tells whether the report with the given sequence is stored and not
// acknowledged.
func (s *Spool) Waiting(sequence uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sequence > s.acked && slices.ContainsFunc(s.segments, func(g *segment) bool {
		_, found := slices.BinarySearch(g.seqs, sequence)
		return found
	})
}

// Dropped returns how many reports were given up over the life of the device,
// except those since the last segment was begun before a kill.
func (s *Spool) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Close closes the files. What is stored stays.
func (s *Spool) Close() error {
	var errs []error
	for _, f := range []*os.File{s.active, s.ack} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
