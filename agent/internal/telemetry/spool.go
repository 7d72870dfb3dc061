package telemetry

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// DefaultSpoolBytes bounds the spool: about three weeks of reports of a quiet
// device.
const DefaultSpoolBytes = 4 << 20

const (
	minSpoolBytes = 64 << 10
	// memoryBytes bounds the reports that the disk does not take.
	memoryBytes = 256 << 10
	diskRetry   = time.Minute // between attempts on a disk that takes nothing
)

// Spool keeps reports until they are acknowledged: on disk, or in memory while
// the disk takes none. It may be used concurrently: appended to by one, read by
// another.
type Spool struct {
	root *os.Root
	dir  string
	max  int64 // bytes of all segments
	each int64 // bytes after which a segment is followed by another

	mu       sync.Mutex // guards what follows
	segments []*segment // oldest first; the last one is appended to while active is set
	active   *os.File
	ack      *os.File
	next     uint64 // sequence of the next report
	dropped  uint64 // reports given up, over the life of the device
	damaged  uint64 // pieces found damaged, since the start
	acked    uint64 // highest acknowledged sequence
	noted    uint64 // acked, as it is on disk

	trouble error     // why the disk takes nothing; nil: it does
	again   time.Time // when it is tried again
	memory  []Record  // what the disk did not take, all later than what is on it
	held    int       // bytes of memory

	fail func() error // nil outside tests: what writing meets
}

// Condition is how the spool fares.
type Condition struct {
	Dropped uint64 // reports given up over the life of the device, but for those since the last segment was begun before a kill
	Damaged uint64 // pieces found damaged, since the start
	Trouble error  // why the disk takes nothing and reports are kept in memory; nil: it does
}

// OpenSpool opens the spool in dir below root and makes it when it is missing.
// What is damaged is passed over and counted; a record that a power cut has torn
// is cut off. A disk that cannot be written is no error: see Condition. max is
// the bound in bytes (0: DefaultSpoolBytes, at least 64 KiB).
func OpenSpool(root *os.Root, dir string, maxBytes int64) (*Spool, error) {
	if root == nil || dir == "" {
		return nil, fault.New(fault.Invalid, "a spool needs a folder")
	}
	if maxBytes <= 0 {
		maxBytes = DefaultSpoolBytes
	}
	maxBytes = max(maxBytes, minSpoolBytes)
	s := &Spool{root: root, dir: dir, max: maxBytes, each: maxBytes / 8, next: 1}
	s.load()
	s.note(s.settle())
	return s, nil
}

// Append stores the report that build makes for the sequence number it is
// given. It returns once the report is on disk, or in memory when the disk does
// not take it. When there is no room the oldest reports are dropped for it. On
// an error the sequence number stays used, so that the gap tells of the loss.
func (s *Spool) Append(kind string, build func(sequence uint64, c Condition) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Record{Sequence: s.next, Kind: kind}
	s.next++
	var err error
	r.Payload, err = build(r.Sequence, s.conditionLocked())
	if err == nil && (len(r.Payload) > protocol.MaxAgentMessage || len(r.Kind) > 255) {
		err = fault.New(fault.TooLarge, "a %s report of %d bytes; at most %d are allowed", r.Kind, len(r.Payload), protocol.MaxAgentMessage)
	}
	if err != nil {
		s.dropped++
		return fmt.Errorf("storing report %d: %w", r.Sequence, err)
	}
	s.hold(r)
	s.note(s.settle())
	return nil
}

// hold puts r behind what waits for the disk, in bounded memory.
func (s *Spool) hold(r Record) {
	s.memory = append(s.memory, r)
	s.held += len(r.Payload)
	for s.held > memoryBytes && len(s.memory) > 1 {
		s.forgetFirst()
		s.dropped++
	}
}

func (s *Spool) forgetFirst() {
	s.held -= len(s.memory[0].Payload)
	s.memory = slices.Delete(s.memory, 0, 1)
}

// settle moves what is held in memory to the disk, unless it failed a moment ago.
func (s *Spool) settle() error {
	if s.trouble != nil && time.Now().Before(s.again) {
		return s.trouble
	}
	if err := s.openFiles(); err != nil {
		return err
	}
	for len(s.memory) > 0 {
		if err := s.write(s.memory[0]); err != nil {
			return err
		}
		s.forgetFirst()
	}
	s.writeAck()
	return nil
}

// note keeps what the disk said.
func (s *Spool) note(err error) {
	if err != nil && (s.trouble == nil || !time.Now().Before(s.again)) {
		s.again = time.Now().Add(diskRetry)
	}
	s.trouble = err
}

// Next returns the oldest report that is not acknowledged, and false when there
// is none. With an error of kind fault.Invalid it was damaged on disk: its
// sequence is set, for Skip.
func (s *Spool) Next() (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		i, _ := slices.BinarySearch(g.seqs, s.acked+1)
		if i == len(g.seqs) {
			continue
		}
		r, err := s.read(g, i)
		r.Sequence = g.seqs[i]
		return r, true, err
	}
	if len(s.memory) > 0 {
		return s.memory[0], true, nil
	}
	return Record{}, false, nil
}

// Ack forgets all reports up to sequence and frees the room of segments that
// hold no other. That a disk does not take the note costs a repetition after
// the next start, no more.
func (s *Spool) Ack(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackLocked(sequence)
}

func (s *Spool) ackLocked(sequence uint64) {
	if sequence <= s.acked || sequence >= s.next {
		return
	}
	s.acked = sequence
	for len(s.memory) > 0 && s.memory[0].Sequence <= sequence {
		s.forgetFirst()
	}
	s.writeAck()
	for len(s.segments) > 1 && s.segments[0].last() <= s.acked {
		if s.removeFirst() != nil {
			return // the next one tries again
		}
	}
}

// Skip gives up the report with the given sequence, which is the oldest.
func (s *Spool) Skip(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped++
	s.ackLocked(sequence)
}

// Waiting tells whether the report with the given sequence is stored and not
// acknowledged.
func (s *Spool) Waiting(sequence uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sequence > s.acked && (slices.ContainsFunc(s.segments, func(g *segment) bool {
		_, found := slices.BinarySearch(g.seqs, sequence)
		return found
	}) || slices.ContainsFunc(s.memory, func(r Record) bool { return r.Sequence == sequence }))
}

// Condition returns how the spool fares.
func (s *Spool) Condition() Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conditionLocked()
}

func (s *Spool) conditionLocked() Condition {
	return Condition{Dropped: s.dropped, Damaged: s.damaged, Trouble: s.trouble}
}

// Close stores what the disk takes, and closes the files. What is stored stays.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = time.Time{}
	_ = s.settle() // what the disk does not take is lost, as the reports said
	var errs []error
	for _, f := range []*os.File{s.active, s.ack} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	s.active, s.ack = nil, nil
	return errors.Join(errs...)
}
