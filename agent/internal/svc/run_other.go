//go:build !windows

package svc

import "context"

// Run calls work: a service manager of Unix asks for a stop by a signal, which
// ends ctx.
func Run(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
