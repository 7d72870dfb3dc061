package nucleus

import (
	"context"
	"fmt"
)

// Step is one change of the device.
type Step struct {
	Name     string // short, the same for every version; callers tell steps apart by it
	Describe string // what Do will do to this device, in one line, for --dry-run

	// Done reports whether the change is already there; then Do is skipped, so
	// that a second run repairs instead of failing.
	Done func(ctx context.Context) (bool, error)

	Do   func(ctx context.Context) error
	Undo func(ctx context.Context) error // nil: nothing to take back
}

// Plan is a list of steps that are carried out in order.
type Plan []Step

// Pending returns the steps that Run would carry out now, in order; with an
// error, those up to the step that fails. A step that depends on what is not
// unpacked yet is among them, though it may turn out that it has nothing to do.
func (p Plan) Pending(ctx context.Context) ([]Step, error) {
	var out []Step
	for _, s := range p {
		done, err := s.Done(ctx)
		if err != nil {
			return out, fmt.Errorf("%s: %w", s.Name, err)
		}
		if !done {
			out = append(out, s)
		}
	}
	return out, nil
}

// Run carries out the steps that are not done. It stops at the first failure
// and leaves what was done: running the plan again goes on from there. around,
// when not nil, is called for each step that is carried out and must call do
// once; it is where a caller watches or breaks the plan.
func (p Plan) Run(ctx context.Context, around func(step string, do func() error) error) error {
	if around == nil {
		around = func(_ string, do func() error) error { return do() }
	}
	for _, s := range p {
		done, err := s.Done(ctx)
		if err == nil && !done {
			err = around(s.Name, func() error { return s.Do(ctx) })
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// Undo takes the steps back, last first. It may be called again after a failure
// and after a run that did not finish.
func (p Plan) Undo(ctx context.Context) error {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Undo == nil {
			continue
		}
		if err := p[i].Undo(ctx); err != nil {
			return fmt.Errorf("undoing %s: %w", p[i].Name, err)
		}
	}
	return nil
}
