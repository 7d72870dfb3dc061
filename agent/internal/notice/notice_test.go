package notice_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/notice"
)

// owner asks each minute, and when it is woken.
type owner struct {
	listening bool
	asked     int
	answer    int
	err       error
	during    func() // happens while it is asked
}

func (o *owner) ask() (int, error) {
	o.asked++
	if o.during != nil {
		o.during()
		o.during = nil
	}
	return o.answer, o.err
}

func TestAnIdleAgentAsksNothingWhileNoticesCome(t *testing.T) {
	o := &owner{listening: true, answer: 7}
	woken := 0
	e := notice.New(func() bool { return o.listening }, 0).Entry(func() { woken++ })
	m := notice.Remember(e, func(v int) bool { return v > 0 })
	get := func(q string) int {
		v, err := m.Ask(q, o.ask)
		require.NoError(t, err)
		return v
	}
	asks := func(want int, why string) {
		t.Helper()
		assert.Equal(t, want, o.asked, why)
		o.asked = 0
	}
	for range 5 {
		assert.Equal(t, 7, get("a"))
	}
	asks(1, "once, then it is known")
	get("b")
	asks(1, "another question")
	o.answer = 8
	e.Notice()
	assert.Equal(t, 1, woken)
	assert.Equal(t, 8, get("b"))
	asks(1, "a notice")

	o.during, o.answer = e.Notice, 9
	e.Notice()
	get("b")
	get("b")
	get("b")
	asks(2, "a notice that comes while it is asked may tell of something newer")

	o.listening = false
	get("b")
	get("b")
	asks(2, "nothing tells of news")
	o.listening = true
	get("b")
	get("b")
	asks(1, "what was asked before notices came may be old")

	o.answer = 0
	e.Notice()
	get("b")
	get("b")
	asks(2, "an answer that will not last")

	o.err = errors.New("away")
	_, err := m.Ask("b", o.ask)
	require.ErrorIs(t, err, o.err)
}

func TestNowAndThenEverythingIsAskedForAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := notice.New(func() bool { return true }, 0)
		var at []time.Duration
		start := time.Now()
		for range 3 {
			b.Entry(func() { at = append(at, time.Since(start)) })
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { assert.NoError(t, b.Run(ctx)) }()
		time.Sleep(24 * time.Hour)
		cancel()
		synctest.Wait()
		assert.InDelta(t, 3*24, len(at), 9)
		for i := 0; i+2 < len(at); i += 3 {
			assert.Equal(t, at[i], at[i+2], "in the same moment")
		}
	})
}
