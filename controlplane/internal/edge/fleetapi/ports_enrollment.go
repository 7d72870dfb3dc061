package fleetapi

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
)

// Enrollments is what the edge needs of the service that lets devices in. by is the
// principal of the call.
type Enrollments interface {
	Request(ctx context.Context, id string) (enrollment.Request, error)
	// Requests pages by id.
	Requests(ctx context.Context, f enrollment.RequestFilter, after string, count int) (_ []enrollment.Request, next string, _ error)
	Approve(ctx context.Context, id string, a enrollment.Approval) (enrollment.Request, error)
	Deny(ctx context.Context, id, by, reason string) (enrollment.Request, error)
	DeleteRequest(ctx context.Context, id, by string) error

	Rule(ctx context.Context, name string) (enrollment.Rule, error)
	// Rules are in the order in which they are asked.
	Rules(ctx context.Context) ([]enrollment.Rule, error)
	// PutRule and what follows return fault.Stale if ifVersion is set and not the
	// current one.
	PutRule(ctx context.Context, name string, n enrollment.NewRule, by string, ifVersion int) (enrollment.Rule, error)
	PutSerials(ctx context.Context, rule string, list []byte, by string, ifVersion int) (enrollment.Rule, error)
	DeleteRule(ctx context.Context, name, by string, ifVersion int) error
}
