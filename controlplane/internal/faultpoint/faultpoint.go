// Package faultpoint ends the process right before or right after a durable
// step, so that tests can kill a real process at every instant that matters.
// The points are the steps of package state; the wrappers stand where each step
// passes anyway, so no domain package knows of them.
//
// A production binary cannot be ended this way: only one built with the tag
// "faults" looks at the environment, see FromEnv.
package faultpoint

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// The two sides of a step.
const (
	Before = "before" // nothing of the step is stored
	After  = "after"  // it is stored, and nobody knows yet
)

// Points is the one point at which a process ends. Nil means none. Safe for
// concurrent use.
type Points struct {
	step state.Step
	when string
	left atomic.Int64 // passes until kill
	kill func()
	note func(state.Step) // told of each step that was stored; nil: nobody
}

// Parse reads "STEP:before" or "STEP:after", with ":N" for the N-th pass (from
// 1, which is the default), as in core.register:after:3. kill is called at that
// pass, once. The empty spec gives nil.
func Parse(spec string, kill func()) (*Points, error) {
	if spec == "" {
		return nil, nil
	}
	parts := strings.Split(spec, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("fault point %q: want STEP:before or STEP:after, with :N for the N-th time", spec)
	}
	p := &Points{step: state.Step(parts[0]), when: parts[1], kill: kill}
	if !p.step.Known() {
		return nil, fmt.Errorf("fault point %q: no step %q; the steps are %v", spec, parts[0], state.Steps())
	}
	if p.when != Before && p.when != After {
		return nil, fmt.Errorf("fault point %q: %q is neither %s nor %s", spec, parts[1], Before, After)
	}
	n := int64(1)
	if len(parts) == 3 {
		var err error
		if n, err = strconv.ParseInt(parts[2], 10, 32); err != nil || n < 1 {
			return nil, fmt.Errorf("fault point %q: %q is no number from 1", spec, parts[2])
		}
	}
	p.left.Store(n)
	return p, nil
}

// Hit says that step is passed; when is Before or After.
func (p *Points) Hit(step state.Step, when string) {
	if p == nil {
		return
	}
	if p.step == step && p.when == when && p.left.Add(-1) == 0 {
		p.kill()
	}
	if p.note != nil && when == After {
		p.note(step)
	}
}

// Store returns s with p hit around each commit: after it only if it succeeded.
func Store(s state.Store, p *Points) state.Store {
	if p == nil {
		return s
	}
	return store{s, p}
}

type store struct {
	state.Store
	points *Points
}

func (s store) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	s.points.Hit(b.Step, Before)
	rev, err := s.Store.Commit(ctx, b)
	if err == nil {
		s.points.Hit(b.Step, After)
	}
	return rev, err
}

// Objects returns o with p hit around each Put: after it only if it succeeded.
func Objects(o object.Store, p *Points) object.Store {
	if p == nil {
		return o
	}
	return objects{o, p}
}

type objects struct {
	object.Store
	points *Points
}

func (o objects) Put(ctx context.Context, step state.Step, key string, r io.Reader, size int64, contentType string) error {
	o.points.Hit(step, Before)
	err := o.Store.Put(ctx, step, key, r, size, contentType)
	if err == nil {
		o.points.Hit(step, After)
	}
	return err
}
