package help

import (
	"context"
	"io"
	"time"
)

// Mark is where reading of a log ended.
type Mark struct {
	Next string // position; Range goes on there
	Lost bool   // between the position asked for and what was written something is gone
	More bool   // there was more to write
}

// Log is one log. What is written is whole lines without secrets, at most
// protocol.MaxHelpLog bytes.
type Log interface {
	// Tail writes the last lines, at most so many, and none from before since (the
	// zero time: however old).
	Tail(ctx context.Context, w io.Writer, lines int, since time.Time) (Mark, error)
	// Range writes from a position on, about length bytes of the log, at least one
	// line. The empty position is the oldest byte that is there. It waits for up to
	// wait while there is nothing. A position of another log is fault.Invalid.
	Range(ctx context.Context, w io.Writer, from string, length int, wait time.Duration) (Mark, error)
}

const (
	maxLine   = 16 << 10 // bytes of a line that are looked at
	showLine  = 15 << 10 // and of those that are written when it is longer: half a secret at the cut is not
	maxEndles = 1 << 20  // bytes without an end of line that count as one
	lookBack  = 16 << 10 // before the first line, for the beginning of a key that goes on into it
	lookEvery = 500 * time.Millisecond
)

// limited passes on whole lines up to a number of bytes.
type limited struct {
	w    io.Writer
	left int
}

// line writes l and an end of line, or nothing: ok is false when there is no
// room.
func (w *limited) line(l []byte) (ok bool, err error) {
	if len(l)+1 > w.left {
		return false, nil
	}
	w.left -= len(l) + 1
	_, err = w.w.Write(append(l[:len(l):len(l)], '\n'))
	return true, err
}
