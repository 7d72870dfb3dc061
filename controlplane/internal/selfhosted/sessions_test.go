package selfhosted_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

// place is a replica that devices connect to.
type place struct {
	*selfhosted.Sessions

	stop func()

	mu    sync.Mutex // guards all below
	here  map[string]bool
	taken int
	moved []string
}

func newPlace(t *testing.T, store state.Store) *place {
	t.Helper()
	p := &place{here: map[string]bool{}}
	p.Sessions = selfhosted.NewSessions(state.NewHub(store), func(id string) {
		p.mu.Lock()
		p.taken++
		p.mu.Unlock()
		p.leave(id)
	}, func(id string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.moved = append(p.moved, id)
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceFunc(func() { cancel(); assert.NoError(t, <-done) })
	t.Cleanup(p.stop)
	return p
}

func (p *place) connect(id string) {
	p.leave(id) // the gateway ends the older one first
	p.mu.Lock()
	p.here[id] = true
	p.mu.Unlock()
	p.Began(id)
}

func (p *place) leave(id string) {
	p.mu.Lock()
	there := p.here[id]
	p.here[id] = false
	p.mu.Unlock()
	if there {
		p.Ended(id)
	}
}

func (p *place) has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.here[id]
}

func TestASessionIsAtTheReplicaWhereItBeganLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		one, two := newPlace(t, store), newPlace(t, store)
		one.connect("gw")
		synctest.Wait()
		assert.True(t, two.Elsewhere("gw"))
		assert.False(t, one.Elsewhere("gw"), "it is here")
		assert.False(t, two.Elsewhere("gx"))

		two.connect("gw")
		synctest.Wait()
		assert.False(t, one.has("gw"))
		assert.True(t, two.has("gw"))
		assert.True(t, one.Elsewhere("gw"))
		assert.False(t, two.Elsewhere("gw"))

		two.connect("gw") // again at the same one
		synctest.Wait()
		assert.True(t, two.has("gw"))
		assert.Equal(t, []int{1, 0}, []int{one.taken, two.taken}, "how many were told that another one began")

		assert.Equal(t, []string{"gw"}, one.moved, "when it began again; the first time it was here")
		assert.Equal(t, []string{"gw"}, two.moved)

		two.leave("gw")
		synctest.Wait()
		assert.False(t, one.Elsewhere("gw"), "it is nowhere")
		page, err := store.List(t.Context(), state.Root+"session/", "", 0)
		require.NoError(t, err)
		assert.Empty(t, page.Entries)

		two.connect("gw")
		synctest.Wait()
		two.stop() // its records go with it
		synctest.Wait()
		assert.False(t, one.Elsewhere("gw"))
	})
}

func TestOfSessionsThatBeginAtOnceOneIsLeft(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 0))
			store := memory.New()
			places := []*place{newPlace(t, store), newPlace(t, store), newPlace(t, store)}
			const ids = 4
			for range 60 {
				id := fmt.Sprint("gw-", dice.IntN(ids))
				p := places[dice.IntN(len(places))]
				switch dice.IntN(5) {
				case 0:
					p.leave(id)
				case 1:
					time.Sleep(time.Duration(dice.IntN(50)) * time.Millisecond)
				default:
					p.connect(id)
				}
			}
			for i := range ids {
				places[dice.IntN(len(places))].connect(fmt.Sprint("gw-", i))
			}
			time.Sleep(time.Minute)
			for i := range ids {
				id, at := fmt.Sprint("gw-", i), []int{}
				for n, p := range places {
					if p.has(id) {
						at = append(at, n)
					}
				}
				require.Len(t, at, 1, "replicas that have %s", id)
				for n, p := range places {
					assert.Equal(t, n != at[0], p.Elsewhere(id), id)
				}
			}
		})
	}
}

// A lease that ends takes all records along, and nobody's session.
func TestSessionsOutliveTheirLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		one, two := newPlace(t, store), newPlace(t, store)
		one.connect("gw")
		synctest.Wait()
		for id := range int64(10) {
			store.Expire(id)
		}
		time.Sleep(time.Minute)
		assert.True(t, one.has("gw"))
		assert.True(t, two.Elsewhere("gw"), "it is stored again")
	})
}
