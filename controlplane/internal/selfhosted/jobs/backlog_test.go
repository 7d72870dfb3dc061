package jobs_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
)

// stuck are devices of which one takes nothing until it is let go.
type stuck struct {
	slow string
	free chan struct{}
	told chan string
}

func (stuck) Connected(string) bool { return true }

func (s stuck) Notify(thing string, _ jobs.Message) int {
	if thing == s.slow {
		<-s.free
	}
	s.told <- thing
	return 0
}

func TestAThingThatTakesLongHoldsUpFewOthers(t *testing.T) {
	k := newKit(t, t.Context())
	const others, messages = 20, 4 // of one announcement
	d := stuck{slow: "slow", free: make(chan struct{}), told: make(chan string, (others+1)*messages)}
	a := jobs.NewAnnouncer(k.jobs, d)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()

	k.job("j", "g", 0)
	k.start("j", "slow", false)
	for i := range others {
		k.start("j", fmt.Sprintf("quick-%d", i), false)
	}
	seen := map[string]bool{}
	for len(seen) < others/2 { // by chance a few share a queue with the slow one
		seen[<-d.told] = true
	}
	assert.NotContains(t, seen, "slow")
	close(d.free)
	for len(seen) < others+1 {
		seen[<-d.told] = true
	}
	cancel()
	assert.NoError(t, <-done)
}
