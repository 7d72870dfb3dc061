package run

import "context"

type progressKey struct{}

// WithProgress returns a context in which Progress calls tell. It is how a
// watchdog hears from a loop that may be deep in a long piece of work.
func WithProgress(ctx context.Context, tell func()) context.Context {
	return context.WithValue(ctx, progressKey{}, tell)
}

// Progress says that the loop of ctx goes on: at each turn, and within work that
// may take minutes whenever a part of it is done. It is cheap and never blocks.
func Progress(ctx context.Context) {
	if tell, ok := ctx.Value(progressKey{}).(func()); ok {
		tell()
	}
}
