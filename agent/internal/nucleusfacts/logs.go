package nucleusfacts

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

const (
	maxLogFiles = 1000
	maxTail     = 256 << 10 // bytes of new lines that one look counts
	maxLine     = 64 << 10  // of a line that has no end yet
)

// tail is how far a log was read.
type tail struct {
	name   string
	offset int64
}

// readLogs adds up the sizes of the logs and counts the error lines that were
// added to the nucleus's own. Lite logs to the journal, which has no files here.
func (r *Reader) readLogs() {
	if time.Since(r.logsAt) < logsEvery {
		return
	}
	first := r.logsAt.IsZero()
	r.logsAt = time.Now()
	folder, err := os.Open(logFolder(r.at))
	if err != nil {
		return
	}
	defer folder.Close() //nolint:errcheck // read only
	entries, _ := folder.ReadDir(maxLogFiles)
	r.facts.LogBytes = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			r.facts.LogBytes += info.Size()
		}
	}
	if path, size, ok := ownLog(r.at); ok {
		r.errors += r.tail.count(path, size, first)
		r.facts.LogErrors = r.errors
	}
}

// ownLog is the log of the nucleus itself.
func ownLog(n Nucleus) (path string, size int64, ok bool) {
	for _, name := range []string{"greengrass.log", "nucleus.log"} {
		path = filepath.Join(logFolder(n), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, info.Size(), true
		}
	}
	return "", 0, false
}

// RecentErrors returns how many lines near the end of the nucleus's own log tell
// of errors.
func RecentErrors(n Nucleus) uint64 {
	if path, size, ok := ownLog(n); ok {
		return new(tail).count(path, size, false)
	}
	return 0
}

// count returns how many lines that were added to the log tell of errors. What
// was there before the first look, or is more than one look reads, is not
// counted.
func (t *tail) count(path string, size int64, first bool) (n uint64) {
	if t.name != path {
		*t = tail{name: path}
	}
	if first {
		t.offset = size
	}
	if size < t.offset { // another file by that name
		t.offset = 0
	}
	t.offset = max(t.offset, size-maxTail)
	f, err := nucleus.OpenFile(path)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.NewSectionReader(f, t.offset, maxTail))
	if err != nil {
		return 0
	}
	whole := bytes.LastIndexByte(b, '\n') + 1
	if whole == 0 && len(b) > maxLine {
		whole = len(b)
	}
	t.offset += int64(whole)
	return errorLines(b[:whole])
}

// errorLines counts the lines of level error: classic's text and JSON formats,
// and those of programs that log with slog or like systemd.
func errorLines(b []byte) (n uint64) {
	for line := range bytes.Lines(b) {
		head := line[:min(len(line), 512)]
		for _, mark := range []string{"[ERROR]", `"level":"ERROR"`, "level=ERROR", " ERROR "} {
			if bytes.Contains(head, []byte(mark)) {
				n++
				break
			}
		}
	}
	return n
}
