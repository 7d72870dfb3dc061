package mqttlink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ggfleet/ggfleet/shared/logx"
)

const (
	takenOver = 0x8E // reason: session taken over (MQTT 5, 4.13)

	// Between two agents with one identity the newest session wins. Each that loses
	// waits so long that the two take turns a few times an hour at most.
	minRival = 5 * time.Minute
	maxRival = time.Hour
	// A session that lasted so long has no rival any more.
	calmRival = 3 * maxRival
)

// errRival keeps the session to the other agent for now.
var errRival = errors.New("another agent uses this identity")

// rival is what is known of another agent with the same identity.
type rival struct {
	seen  time.Time     // when it took the session the last time
	wait  time.Duration // 0: there is none
	until time.Time     // the session is left to it
}

func (l *Link) disconnected(ctx context.Context, reason byte) {
	if reason != takenOver {
		l.cfg.Log.WarnContext(ctx, "disconnected by the server", "reason", reason)
		return
	}
	now := time.Now()
	l.mu.Lock()
	if l.rival.wait == 0 || now.Sub(l.rival.seen) > calmRival {
		l.rival.wait = minRival
	} else {
		l.rival.wait = min(2*l.rival.wait, maxRival)
	}
	after := l.rival.wait/2 + rand.N(l.rival.wait/2+1)
	l.rival.seen, l.rival.until = now, now.Add(after)
	l.mu.Unlock()
	l.cfg.Log.ErrorContext(ctx, "another agent uses this identity and took the session; was the disk of this device copied? enrol one of the two anew", logx.ClientID, l.cfg.ClientID, "after", after)
	l.cfg.OnTakenOver()
}

// rivalLeft is how long the session is still left to another agent.
func (l *Link) rivalLeft() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, time.Until(l.rival.until))
}
