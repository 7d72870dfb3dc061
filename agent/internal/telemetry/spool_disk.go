package telemetry

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	segmentSuffix = ".seg"
	ackName       = "acked"
	maxSegments   = 256
	maxSegment    = 16 << 20 // bytes that are read of one file, whatever the bound was when it was written
)

// segment is one file.
type segment struct {
	name string
	parsed
}

// load reads what is on disk. It changes nothing there: it must do on a disk
// that can only be read.
func (s *Spool) load() {
	entries, _ := fs.ReadDir(s.root.FS(), s.dir) // sorted, and names are of one length; none is as good as empty
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), segmentSuffix) {
			continue
		}
		g := &segment{name: path.Join(s.dir, e.Name())}
		b, err := s.readSegment(g.name)
		if err != nil {
			s.damaged++ // what can be read of it counts
		}
		g.parsed = parseSegment(b)
		s.damaged += uint64(g.damaged) //nolint:gosec // a count
		s.dropped = max(s.dropped, g.header.dropped)
		s.segments = append(s.segments, g)
	}
	// By what is in them: a name is no proof.
	slices.SortStableFunc(s.segments, func(a, b *segment) int { return cmp.Compare(a.first(), b.first()) })
	for i, g := range s.segments {
		if g.torn && i < len(s.segments)-1 {
			s.damaged++
		}
		g.above(s.next - 1)
		s.next = max(s.next, g.last()+1)
	}
	if f, err := s.root.Open(path.Join(s.dir, ackName)); err == nil {
		var b [12]byte
		if _, err := io.ReadFull(f, b[:]); err == nil && binary.BigEndian.Uint32(b[8:]) == crc(b[:8]) {
			s.acked = min(binary.BigEndian.Uint64(b[:8]), maxSequence)
		}
		_ = f.Close() // read only
	}
	s.noted = s.acked
	s.next = max(s.next, s.acked+1)
}

func (s *Spool) readSegment(name string) ([]byte, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, maxSegment))
}

// openFiles opens what is written to, unless it is open.
func (s *Spool) openFiles() error {
	if s.active != nil && s.ack != nil {
		return nil
	}
	if err := s.failure(); err != nil {
		return err
	}
	if err := s.root.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	var err error
	if s.ack == nil {
		// Written in place and not synced: when it is lost, reports are sent twice,
		// which readers must bear.
		if s.ack, err = s.root.OpenFile(path.Join(s.dir, ackName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
	}
	// A segment whose tail was torn stays as it is until it is sent.
	if n := len(s.segments); n > 0 && s.active == nil && s.segments[n-1].damaged == 0 && !s.segments[n-1].torn {
		s.active, err = s.root.OpenFile(s.segments[n-1].name, os.O_WRONLY|os.O_APPEND, 0)
		return err
	}
	return s.roll()
}

// failure is what a test has the disk say.
func (s *Spool) failure() error {
	if s.fail == nil {
		return nil
	}
	return s.fail()
}

// roll begins a new segment for the first report that waits.
func (s *Spool) roll() error {
	if err := s.failure(); err != nil {
		return err
	}
	first := s.next
	if len(s.memory) > 0 {
		first = s.memory[0].Sequence
	}
	name, n := "", first
	taken := func(g *segment) bool { return g.name == name && len(g.seqs) > 0 }
	for name = s.segmentName(n); slices.ContainsFunc(s.segments, taken); name = s.segmentName(n) {
		n++
	}
	h := header{base: first, dropped: s.dropped}
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
	s.segments = slices.DeleteFunc(s.segments, func(g *segment) bool { return g.name == name }) // it held nothing
	s.segments = append(s.segments, &segment{name: name, parsed: parsed{header: h, good: headerSize}})
	return nil
}

func (s *Spool) segmentName(n uint64) string {
	return path.Join(s.dir, fmt.Sprintf("%020d%s", n, segmentSuffix))
}

// write appends r to the active segment and returns once it is on disk.
func (s *Spool) write(r Record) error {
	b := r.append(nil)
	if err := s.makeRoom(int64(len(b))); err != nil {
		return err
	}
	if err := s.failure(); err != nil {
		return err
	}
	last := s.segments[len(s.segments)-1]
	_, err := s.active.Write(b)
	if err == nil {
		err = s.active.Sync()
	}
	if err != nil {
		// What the file holds now is not known: the next report begins another.
		err = errors.Join(err, s.active.Truncate(int64(last.good)), s.active.Close())
		s.active, last.torn = nil, true
		return err
	}
	last.add(r.Sequence, len(b))
	return nil
}

// makeRoom begins a new segment when the active one is long enough, and drops
// the oldest ones while n more bytes would not fit.
func (s *Spool) makeRoom(n int64) error {
	if last := s.segments[len(s.segments)-1]; len(last.seqs) > 0 && int64(last.good)+n > s.each {
		if err := s.roll(); err != nil {
			return err
		}
	}
	for len(s.segments) > 1 && (s.size()+n > s.max || len(s.segments) > maxSegments) {
		lost := uint64(0)
		for _, q := range s.segments[0].seqs {
			if q > s.acked {
				lost++
			}
		}
		if err := s.removeFirst(); err != nil {
			return err
		}
		s.dropped += lost
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
	if err := s.failure(); err != nil {
		return err
	}
	if err := s.root.Remove(s.segments[0].name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.segments = s.segments[1:]
	return nil
}

// writeAck notes what is acknowledged.
func (s *Spool) writeAck() {
	if s.ack == nil || s.noted == s.acked || s.failure() != nil {
		return
	}
	b := binary.BigEndian.AppendUint64(nil, s.acked)
	b = binary.BigEndian.AppendUint32(b, crc(b))
	if _, err := s.ack.WriteAt(b, 0); err != nil {
		s.note(fmt.Errorf("storing what is acknowledged: %w", err))
		return
	}
	s.noted = s.acked
}

// read returns the i-th record of g.
func (s *Spool) read(g *segment, i int) (Record, error) {
	f, err := s.root.Open(g.name)
	if err != nil {
		return Record{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	b := make([]byte, g.ends[i]-g.starts[i])
	if _, err := f.ReadAt(b, int64(g.starts[i])); err != nil {
		return Record{}, err
	}
	r, _, ok := parseRecord(b)
	if !ok || r.Sequence != g.seqs[i] {
		return Record{}, fault.New(fault.Invalid, "a report in %s was damaged on disk", g.name)
	}
	return r, nil
}
