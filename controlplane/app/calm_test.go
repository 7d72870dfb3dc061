package app

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestConnectionsWaitForNotificationsButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Bool
		c := &calm{busy: busy.Load}
		waited := func() time.Duration {
			began := time.Now()
			c.wait(t.Context())
			return time.Since(began)
		}
		assert.Zero(t, waited(), "nothing to wait for")
		busy.Store(true)
		time.AfterFunc(time.Second, func() { busy.Store(false) })
		assert.InDelta(t, time.Second, waited(), float64(calmLook))
		assert.Zero(t, waited(), "it is over")

		busy.Store(true)
		assert.Equal(t, calmMost, waited(), "always busy")
		assert.Zero(t, waited(), "a server that is always busy serves all the same")
		time.Sleep(calmMost)
		assert.Equal(t, calmMost, waited())

		time.Sleep(calmMost)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.wait(ctx)
		assert.Error(t, ctx.Err(), "a client that gives up")
		synctest.Wait()
		busy.Store(false)
		time.Sleep(calmMost)
	})
}
