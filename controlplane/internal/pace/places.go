package pace

import (
	"sync"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Places bounds how much of something is under way at once: in all, and of each
// caller. Safe for concurrent use.
type Places[K comparable] struct {
	what      string
	all, each int

	mu    sync.Mutex // guards all below
	taken int
	by    map[K]int
}

// NewPlaces has places for all of what, and for each of one caller. what is a word
// in the plural, for people.
func NewPlaces[K comparable](what string, all, each int) *Places[K] {
	return &Places[K]{what: what, all: all, each: each, by: map[K]int{}}
}

// Take takes a place for k without waiting, or returns fault.Exhausted when k has
// all that one caller may have and fault.Unavailable when no place is free. leave
// gives the place back; it may be called again.
func (p *Places[K]) Take(k K) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by[k] >= p.each {
		return nil, fault.New(fault.Exhausted, "too many %s at once; %d of yours are under way, which is all that one caller may have", p.what, p.each)
	}
	if p.taken >= p.all {
		return nil, fault.New(fault.Unavailable, "too many %s at once; %d are under way, which is all that may be: try again", p.what, p.all)
	}
	p.taken++
	p.by[k]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if p.by[k]--; p.by[k] == 0 {
			delete(p.by, k)
		}
	}), nil
}
