package reconcile

import "context"

// Pass is for tests that feed the loop step by step.
func (l *Loop) Pass(ctx context.Context) error { return l.pass(ctx) }
