package reconcile

import (
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	// fullFor is how long an installation waits at most that a disk has stopped: it
	// would fetch and unpack the same again, and fill the disk again.
	fullFor = 15 * time.Minute
	// An installation that a disk has stopped is tried again once there is more room
	// by one of so many parts of its archive, at least leastRoom bytes.
	partsOfRoom = 8
	leastRoom   = 64 << 10
	fewFiles    = 10_000 // inodes; with more it was not for them
)

// Room is what a file system takes. The zero value: that is not known.
type Room struct {
	Bytes, Inodes uint64
	ReadOnly      bool
}

func roomOf(dir string) (r Room) {
	d := inventory.New("/").Read(dir).Disk
	if d.FreeBytes != nil {
		r.Bytes = *d.FreeBytes
	}
	if d.InodesFree != nil {
		r.Inodes = *d.InodesFree
	}
	r.ReadOnly = d.ReadOnly != nil && *d.ReadOnly
	return r
}

// rooms are those of the folders that an installation writes to.
func (l *Loop) rooms() map[string]Room {
	out := map[string]Room{}
	for _, s := range l.sites() {
		out[s.Path()] = l.cfg.Room(s.Path())
	}
	return out
}

// isFull notes that a disk has stopped an installation. Room that was not enough
// before is not enough again.
func (l *Loop) isFull(digest string, why error) {
	now := l.rooms()
	if l.full.digest == digest {
		for dir, had := range l.full.room {
			r := now[dir]
			now[dir] = Room{max(r.Bytes, had.Bytes), max(r.Inodes, had.Inodes), r.ReadOnly}
		}
	}
	l.full.digest, l.full.until, l.full.why, l.full.room = digest, time.Now().Add(fullFor), why, now
}

// stillFull is an error while an installation that a disk has stopped would be
// stopped again.
func (l *Loop) stillFull(digest string, size int64) error {
	if l.full.digest != digest || !time.Now().Before(l.full.until) {
		return nil
	}
	more := uint64(max(size/partsOfRoom, leastRoom))
	for dir, r := range l.rooms() {
		had, known := l.full.room[dir]
		if known && (r.Bytes >= had.Bytes+more || had.Inodes < fewFiles && r.Inodes/2 > had.Inodes || had.ReadOnly && !r.ReadOnly) {
			return nil
		}
	}
	return fault.New(fault.Exhausted, "it is tried again when there is more room, and in %s: the disk could not take it: %v", time.Until(l.full.until).Round(time.Minute), l.full.why)
}

// makeRoom removes what an installation has fetched.
func (l *Loop) makeRoom(archive string) error {
	err := l.cfg.Dir.Root().Remove(archive)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}
