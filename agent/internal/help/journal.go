package help

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// JournalLog is what systemd's journal has of some units or identifiers. match
// are flags of journalctl, written down by the caller.
func JournalLog(match ...string) Log { return journalLog{program: "journalctl", match: match} }

type journalLog struct {
	program string
	match   []string
}

const (
	journalEvery = 2 * time.Second
	maxEntry     = 2 << 20 // bytes of an entry in JSON
	journalTime  = time.Minute
)

// entry is what is read of an entry.
type entry struct {
	Cursor  string          `json:"__CURSOR"`
	Time    string          `json:"__REALTIME_TIMESTAMP"` // µs
	Message json.RawMessage `json:"MESSAGE"`              // text, bytes or null
	Name    string          `json:"SYSLOG_IDENTIFIER"`
	PID     string          `json:"_PID"`
}

// Tail implements Log.
func (j journalLog) Tail(ctx context.Context, w io.Writer, lines int, since time.Time) (Mark, error) {
	args := []string{"--lines=" + strconv.Itoa(lines)}
	if !since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(since.Unix(), 10))
	}
	m, err := j.read(ctx, w, args, "", 1<<62)
	if err == nil && m.Next == "" && since.IsZero() {
		err = fault.New(fault.NotFound, "the journal has nothing of this")
	}
	return m, err
}

// Range implements Log.
func (j journalLog) Range(ctx context.Context, w io.Writer, from string, length int, wait time.Duration) (Mark, error) {
	cursor := ""
	if from != "" {
		b, err := base64.RawURLEncoding.DecodeString(from)
		if err != nil || len(b) < 2 || b[0] != kindJournal || bytes.ContainsFunc(b[1:], func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return Mark{}, errPosition
		}
		cursor = string(b[1:])
	}
	until := time.Now().Add(wait)
	for {
		var args []string
		if cursor != "" {
			args = []string{"--cursor=" + cursor}
		}
		m, err := j.read(ctx, w, args, cursor, int64(length))
		if m.Next == "" {
			m.Next = from
		}
		if err != nil || m.Next != from || !time.Now().Before(until) {
			return m, err
		}
		if err := run.Sleep(ctx, journalEvery); err != nil {
			return m, err
		}
	}
}

// read writes the entries that journalctl gives. after is the cursor of an entry
// that is there, and not written: when it is not the first one, it is gone, and
// others with it.
func (j journalLog) read(ctx context.Context, w io.Writer, args []string, after string, length int64) (m Mark, err error) {
	program, err := exec.LookPath(j.program)
	if err != nil {
		return m, fault.New(fault.Unsupported, "this log is in systemd's journal, and there is no %s on this device", j.program)
	}
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	args = append(args, "--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID")
	cmd := exec.CommandContext(ctx, program, append(args, j.match...)...)
	cmd.WaitDelay = time.Second
	var problem bytes.Buffer
	cmd.Stderr = &capped{w: &problem, left: 1 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, err
	}
	if err := cmd.Start(); err != nil {
		return m, fmt.Errorf("starting %s: %w", j.program, err)
	}
	m, enough, err := j.entries(out, w, after, length)
	if enough || err != nil {
		cancel() // it has more to say
		_ = cmd.Wait()
		return m, err
	}
	if err := cmd.Wait(); err != nil && m.Next == "" && problem.Len() > 0 {
		return m, fmt.Errorf("%s: %w: %s", j.program, err, text(problem.String()))
	}
	return m, nil
}

func (j journalLog) entries(in io.Reader, w io.Writer, after string, length int64) (m Mark, enough bool, err error) {
	out := &limited{w, protocol.MaxHelpLog}
	var scrub scrubber
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEntry)
	for first := true; lines.Scan(); first = false {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Cursor == "" {
			continue
		}
		if first && after != "" {
			if e.Cursor == after {
				continue
			}
			m.Lost = true
		}
		if length <= 0 {
			m.More = true
			return m, true, nil
		}
		length -= int64(len(e.Message))
		ok, err := e.write(out, &scrub)
		if err != nil || !ok {
			m.More = true
			return m, true, err
		}
		m.Next = base64.RawURLEncoding.EncodeToString(append([]byte{kindJournal}, e.Cursor...))
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return m, true, fault.New(fault.TooLarge, "the journal has an entry of more than %d bytes", maxEntry)
	}
	return m, lines.Err() != nil, lines.Err()
}

// write writes the lines of an entry, each with the entry's time and source.
func (e entry) write(out *limited, scrub *scrubber) (ok bool, err error) {
	us, _ := strconv.ParseInt(e.Time, 10, 64)
	head := time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000Z ") + e.Name
	if e.PID != "" {
		head += "[" + e.PID + "]"
	}
	for l := range strings.SplitSeq(strings.TrimRight(e.message(), "\n"), "\n") {
		if len(l) > maxLine {
			l = l[:maxLine]
		}
		shown, says := scrub.line([]byte(l))
		if !says {
			continue
		}
		if len(l) == maxLine {
			shown = append(shown[:min(len(shown), showLine):min(len(shown), showLine)], " [the rest of this line is left out]"...)
		}
		if ok, err := out.line(append(plain([]byte(head+": ")), shown...)); !ok || err != nil {
			return ok, err
		}
	}
	return true, nil
}

// message returns the text, also of a message that is no UTF-8.
func (e entry) message() string {
	var s string
	if json.Unmarshal(e.Message, &s) == nil {
		return s
	}
	var numbers []int
	if json.Unmarshal(e.Message, &numbers) != nil {
		return ""
	}
	b := make([]byte, len(numbers))
	for i, n := range numbers {
		b[i] = byte(n) //nolint:gosec // journalctl gives bytes
	}
	return string(b)
}

// capped keeps the beginning of what is written to it.
type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	_, err := c.w.Write(p[:n])
	return len(p), err
}
