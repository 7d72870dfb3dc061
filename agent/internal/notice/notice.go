// Package notice keeps an idle agent from asking. While the MQTT session stands,
// notices of the control plane tell that something is new; what was answered last
// is good until one comes. Now and then everything is asked for all the same, at
// once, so that the calls share one connection: a TLS handshake costs more bytes
// than an hour of keep-alives.
//
// A session that begins counts as a notice, and without one every question is
// asked. The package knows neither MQTT nor HTTPS, nor what is asked.
package notice

import (
	"context"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/run"
)

// DefaultRest is the time after which everything is asked for again.
const DefaultRest = time.Hour

// Board is where notices arrive.
type Board struct {
	listening func() bool
	rest      time.Duration

	mu      sync.Mutex // guards entries, and all of each
	entries []*Entry
}

// New returns a board. listening tells whether notices come now. rest is the
// time after which everything is asked for again, spread by a fifth; 0:
// DefaultRest.
func New(listening func() bool, rest time.Duration) *Board {
	if rest <= 0 {
		rest = DefaultRest
	}
	return &Board{listening: listening, rest: rest}
}

// Entry is one thing that notices tell of.
type Entry struct {
	board    *Board
	wake     func()
	noticed  uint64 // how often there was something new
	answered uint64 // noticed, when the question was asked whose answer is known
}

// Entry adds one. wake makes its owner ask; it must not block. All entries are
// added before Run.
func (b *Board) Entry(wake func()) *Entry {
	e := &Entry{board: b, wake: wake, noticed: 1}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
	return e
}

// Notice tells that something is new. It does not block.
func (e *Entry) Notice() {
	e.board.mu.Lock()
	e.noticed++
	e.board.mu.Unlock()
	e.wake()
}

// Run has everything asked for now and then, until ctx is done.
func (b *Board) Run(ctx context.Context) error {
	for run.Sleep(ctx, run.Spread(b.rest)) == nil {
		b.mu.Lock()
		entries := b.entries
		b.mu.Unlock()
		for _, e := range entries {
			e.Notice()
		}
	}
	return nil
}

// Memory is the last answer to a question.
type Memory[T any] struct {
	entry *Entry
	keep  func(T) bool

	question string
	answer   T
	known    bool
}

// Remember returns a memory for the question that e is about; an entry has one. Only answers
// that keep approves of are good for another time. It is for one goroutine.
func Remember[T any](e *Entry, keep func(T) bool) *Memory[T] { return &Memory[T]{entry: e, keep: keep} }

// Ask answers from memory if the question is the same as before, notices come,
// and none did since; else it asks. What it returns is shared and not to be
// changed.
func (m *Memory[T]) Ask(question string, ask func() (T, error)) (T, error) {
	b := m.entry.board
	listening := b.listening()
	b.mu.Lock()
	noticed, answered := m.entry.noticed, m.entry.answered
	b.mu.Unlock()
	if m.known && listening && noticed == answered && question == m.question {
		return m.answer, nil
	}
	answer, err := ask()
	if err != nil {
		return answer, err
	}
	m.question, m.answer, m.known = question, answer, m.keep(answer)
	b.mu.Lock()
	// A notice may have come while it was asked, and the answer be the old one. So
	// may one that was missed: only what was asked while notices came is good.
	if listening {
		m.entry.answered = noticed
	} else {
		m.known = false
	}
	b.mu.Unlock()
	return answer, nil
}
