package etcdstore

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// classify gives an error of etcd its meaning here and keeps the original for
// the log. What is not listed (a refused password, a corrupt cluster) stays
// unclassified: no caller of ours can do anything about it.
func classify(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case errors.Is(err, rpctypes.ErrCompacted):
		return state.ErrCompacted
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w", fault.New(fault.Exhausted,
			"the store of record is full and takes no writes until it has room: raise its quota and restart, or delete what is not needed"), err)
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%w: %w", fault.Exhausted, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", fault.New(fault.TooLarge, "the change is larger than the 1.5 MB that one commit may hold"), err)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", fault.New(fault.Conflict, "the lease has ended"), err)
	case errors.Is(err, context.DeadlineExceeded), away(err):
		return fmt.Errorf("%w: %w", fault.Unavailable, err)
	}
	return err
}

func away(err error) bool {
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}
