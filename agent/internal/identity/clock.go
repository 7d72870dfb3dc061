package identity

import (
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
)

const (
	clockName = "clock.json"
	keepFloor = 24 * time.Hour // how far the stored floor may lag: a write a day
)

// Clock says what time it is on a device whose own clock may be wrong by years.
// Safe for concurrent use.
//
// It holds two things apart. Now is the best guess: what the control plane said
// last, and what has passed since. Floor is a time that has passed for certain,
// by which expired certificates of servers are told; it grows only when the own
// clock and the server's agree that a time has come, so that neither of them alone
// can lock the device out by running ahead.
type Clock struct {
	dir *localstate.Dir

	mu     sync.Mutex
	server time.Time // as the control plane said; zero: not heard since the start
	heard  time.Time // when, by the own clock with its monotonic reading
	floor  time.Time
	stored time.Time
}

type clockRecord struct {
	Floor time.Time `json:"floor"`
}

// OpenClock reads what is kept in d. A damaged record is as none.
func OpenClock(d *localstate.Dir) *Clock {
	var r clockRecord
	_ = d.ReadJSON(clockName, &r)
	return &Clock{dir: d, floor: r.Floor, stored: r.Floor}
}

// Saw takes the time that an authentic server said just now.
func (c *Clock) Saw(server time.Time) {
	own := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server, c.heard = server, own
	both := server
	if own.Before(both) {
		both = own
	}
	if both.After(c.floor) {
		c.floor = both.Round(0)
	}
	if c.floor.Sub(c.stored) >= keepFloor {
		// Where nothing can be written the floor of the last time stands.
		if c.dir.WriteJSON(clockName, clockRecord{Floor: c.floor.UTC()}) == nil {
			c.stored = c.floor
		}
	}
}

// Now is the time by the control plane's clock; as long as it was not heard, by
// the own clock, but never before Floor.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := time.Now()
	if !c.heard.IsZero() {
		return c.server.Add(own.Sub(c.heard))
	}
	if own.Before(c.floor) {
		return c.floor
	}
	return own
}

// Floor is a time that has passed.
func (c *Clock) Floor() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floor
}

// Heard reports how long ago the control plane's time was heard; ok is false when
// it was not since the start.
func (c *Clock) Heard() (ago time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.heard), !c.heard.IsZero()
}

// Offset is how far the own clock is ahead of the control plane's; ok is false
// when that was not heard since the start.
func (c *Clock) Offset() (ahead time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard.IsZero() {
		return 0, false
	}
	return c.heard.Round(0).Sub(c.server), true
}
