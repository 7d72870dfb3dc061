package help

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	maxEntries = 10_000 // of a folder of logs that are looked at
	maxOlder   = 64     // older files of one log
)

// FileLog is the log in the file name of the folder dir, with the older files
// that rotation made of it: name.1, or classic's base_2026_03_09_17_0.log. The
// folder is read anew each time; links in it are not followed.
func FileLog(dir, name string) Log { return fileLog{dir, name} }

type fileLog struct{ dir, name string }

var rotated = regexp.MustCompile(`^_[0-9_]{4,40}\.log$`)

// part is one file of a log.
type part struct {
	name string
	at   time.Time
	f    *os.File
	size int64
}

// LogNames returns the names of the logs in a folder, without .log, at most max
// of them, in order.
func LogNames(dir string, most int) []string {
	entries := readDir(dir)
	var out []string
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".log")
		if !ok || !e.Type().IsRegular() || len(out) >= most {
			continue
		}
		if i := strings.IndexByte(base, '_'); i > 0 && rotated.MatchString(base[i:]+".log") {
			continue
		}
		out = append(out, base)
	}
	return out
}

func readDir(dir string) []fs.DirEntry {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close() //nolint:errcheck // read only
	entries, _ := d.ReadDir(maxEntries)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries
}

// open opens the files of the log, the oldest first. It looks for the name among
// those that are there, so that no name from outside ever makes a path.
func (l fileLog) open() (out []part, _ error) {
	root, err := os.OpenRoot(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.missing()
	}
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // read only
	base := strings.TrimSuffix(l.name, ".log")
	for _, e := range readDir(l.dir) {
		n := e.Name()
		older := n == l.name+".1" || strings.HasPrefix(n, base) && rotated.MatchString(n[len(base):])
		if n != l.name && !older || !e.Type().IsRegular() {
			continue
		}
		if p, err := openPart(root, n); err == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b part) int {
		if a.name == l.name || b.name == l.name {
			return cmp.Compare(b2i(a.name == l.name), b2i(b.name == l.name))
		}
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.name, b.name))
	})
	if len(out) == 0 {
		return nil, l.missing()
	}
	for len(out) > maxOlder {
		_ = out[0].f.Close()
		out = out[1:]
	}
	return out, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (l fileLog) missing() error {
	return fault.New(fault.NotFound, "there is no log %s in %s", l.name, l.dir)
}

// openPart opens a regular file, not what a link leads to, and never waits for
// the other end of a pipe.
func openPart(root *os.Root, name string) (part, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return part{}, err
	}
	if !before.Mode().IsRegular() {
		return part{}, fault.New(fault.Denied, "%s is no file", name)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return part{}, err
	}
	now, err := f.Stat()
	if err != nil || !os.SameFile(before, now) || !now.Mode().IsRegular() {
		_ = f.Close()
		return part{}, fault.New(fault.Denied, "%s has been exchanged", name)
	}
	return part{name: name, at: now.ModTime(), f: f, size: now.Size()}, nil
}

func closeAll(parts []part) {
	for _, p := range parts {
		_ = p.f.Close()
	}
}

// Tail implements Log.
func (l fileLog) Tail(_ context.Context, w io.Writer, lines int, since time.Time) (Mark, error) {
	parts, err := l.open()
	if err != nil {
		return Mark{}, err
	}
	defer closeAll(parts)
	i, offset, err := back(parts, lines)
	if err != nil {
		return Mark{}, err
	}
	r := reading{parts: parts, i: i, offset: offset, out: &limited{w, protocol.MaxHelpLog}, since: since, length: 1 << 62}
	return r.all()
}

// back finds the beginning of the last lines.
func back(parts []part, lines int) (i int, offset int64, err error) {
	const most, block = 2 << 20, 64 << 10
	left := int64(most)
	buf := make([]byte, block)
	want := lines // ends of lines to pass; the one at the very end does not count
	for i = len(parts) - 1; i >= 0; i-- {
		end := parts[i].size
		for at := end; at > 0; {
			n := min(at, block)
			at -= n
			k, err := parts[i].f.ReadAt(buf[:n], at)
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, 0, err
			}
			for j := k - 1; j >= 0; j-- {
				if buf[j] != '\n' || at+int64(j) == end-1 {
					continue
				}
				if want--; want == 0 {
					return i, at + int64(j) + 1, nil
				}
			}
			if left -= n; left <= 0 {
				return i, at, nil
			}
		}
		if end > 0 {
			if want--; want <= 0 { // the first line of this file
				return i, 0, nil
			}
		}
	}
	return 0, 0, nil
}

// Range implements Log.
func (l fileLog) Range(ctx context.Context, w io.Writer, from string, length int, wait time.Duration) (Mark, error) {
	until := time.Now().Add(wait)
	for {
		m, wrote, err := l.once(w, from, length)
		if err != nil || wrote || !time.Now().Before(until) {
			return m, err
		}
		if err := run.Sleep(ctx, lookEvery); err != nil {
			return m, err
		}
	}
}

func (l fileLog) once(w io.Writer, from string, length int) (m Mark, wrote bool, err error) {
	var p position
	if from != "" {
		if p, err = parsePosition(from); err != nil {
			return m, false, err
		}
	}
	parts, err := l.open()
	if errors.Is(err, fault.NotFound) && from != "" {
		return Mark{Next: from}, false, nil // rotation may be about to make it
	}
	if err != nil {
		return m, false, err
	}
	defer closeAll(parts)
	r := reading{parts: parts, out: &limited{w, protocol.MaxHelpLog}, length: int64(length)}
	lost := false
	if p.offset > 0 {
		// The newest first: a file that is being rotated by copying is there twice.
		for r.i = len(parts) - 1; r.i >= 0 && !p.in(parts[r.i].f, parts[r.i].size); {
			r.i--
		}
		if r.offset = p.offset; r.i < 0 {
			r.i, r.offset, lost = 0, 0, true
		}
	}
	before := r.out.left
	m, err = r.all()
	m.Lost = lost
	return m, lost || r.out.left < before || m.More, err
}

// reading goes through the files of a log from a place on.
type reading struct {
	parts  []part
	i      int
	offset int64
	out    *limited
	since  time.Time
	length int64 // bytes of the log to read

	scrub scrubber
	stamp time.Time // of the last line that had one
}

// all writes lines until the end, or until length or the room for what is
// written is used up.
func (r *reading) all() (Mark, error) {
	r.warm()
	more, err := r.file()
	for ; err == nil && !more && r.i < len(r.parts)-1; more, err = r.file() {
		r.i, r.offset = r.i+1, 0
	}
	if err != nil {
		return Mark{}, err
	}
	// An empty file says nothing about a position: the end of the one before does.
	for r.offset == 0 && r.i > 0 {
		r.i--
		r.offset = r.parts[r.i].size
	}
	p, err := positionAt(r.parts[r.i].f, r.offset)
	return Mark{Next: p.String(), More: more}, err
}

// warm lets the scrubber see what is before the first line.
func (r *reading) warm() {
	n := min(r.offset, lookBack)
	if n == 0 {
		return
	}
	b := make([]byte, n)
	k, _ := r.parts[r.i].f.ReadAt(b, r.offset-n)
	for l := range bytes.SplitSeq(b[:k], []byte("\n")) {
		r.scrub.line(l)
	}
}

// file writes the lines of one file. stopped tells that there is more than may
// be written.
func (r *reading) file() (stopped bool, err error) {
	p := r.parts[r.i]
	last := r.i == len(r.parts)-1
	in := bufio.NewReaderSize(io.NewSectionReader(p.f, r.offset, p.size-r.offset), maxLine)
	middle := r.inMiddle()
	for r.offset < p.size {
		l, n, ended, err := readLine(in)
		if err != nil {
			return false, err
		}
		if !ended && last && n < maxEndles && time.Since(p.at) < 2*time.Second {
			return false, nil // it is being written
		}
		if r.length <= 0 {
			return true, nil
		}
		ok, err := r.write(l, n, middle)
		if err != nil || !ok {
			return true, err
		}
		middle = !ended
		r.offset += n
		r.length -= n
	}
	return false, nil
}

// inMiddle reports whether reading begins within a line.
func (r *reading) inMiddle() bool {
	if r.offset == 0 {
		return false
	}
	var b [1]byte
	_, err := r.parts[r.i].f.ReadAt(b[:], r.offset-1)
	return err != nil || b[0] != '\n'
}

const goesOn = "[a line without end goes on here]"

func (r *reading) write(l []byte, n int64, middle bool) (ok bool, err error) {
	if middle {
		return r.out.line([]byte(goesOn)) // half a secret would not be recognised
	}
	keep := r.scrub
	out, says := r.scrub.line(l)
	if !says || !r.fresh(l) {
		return true, nil
	}
	if n > int64(len(l))+2 { // there is more of it than was read
		out = append(out[:min(len(out), showLine):min(len(out), showLine)], " [the rest of this line is left out]"...)
	}
	if ok, err = r.out.line(out); !ok {
		r.scrub = keep
	}
	return ok, err
}

// readLine returns up to maxLine bytes of a line, without its end, and how long
// it is in the log; ended is false when there is no end of line yet.
func readLine(in *bufio.Reader) (l []byte, n int64, ended bool, err error) {
	b, err := in.ReadSlice('\n')
	n = int64(len(b))
	if errors.Is(err, bufio.ErrBufferFull) {
		l = bytes.Clone(b)
		for errors.Is(err, bufio.ErrBufferFull) && n < maxEndles {
			b, err = in.ReadSlice('\n')
			n += int64(len(b))
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return l, n, false, nil
		}
		b = l
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, n, false, err
	}
	return bytes.TrimRight(b, "\r\n"), n, err == nil, nil
}

// fresh reports whether a line is not from before since. A line without a time
// is as old as the one before it.
func (r *reading) fresh(l []byte) bool {
	if r.since.IsZero() {
		return true
	}
	if t, ok := stampOf(l); ok {
		r.stamp = t
	}
	return !r.stamp.Before(r.since)
}

var stamped = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?`)

// stampOf finds the time that a line begins with, or nearly.
func stampOf(l []byte) (time.Time, bool) {
	s := string(stamped.Find(l[:min(len(l), 128)]))
	s = strings.Replace(strings.Replace(s, " ", "T", 1), ",", ".", 1)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
