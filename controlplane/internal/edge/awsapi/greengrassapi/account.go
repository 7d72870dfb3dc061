package greengrassapi

import (
	"context"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
)

func (a *api) accountOperations() []rest.Operation {
	const role = "/greengrass/servicerole"
	return []rest.Operation{
		{Name: "AssociateServiceRoleToAccount", Method: "PUT", Path: role, Call: rest.Handle(a.setServiceRole)},
		{Name: "GetServiceRoleForAccount", Method: "GET", Path: role, Call: rest.Handle(a.getServiceRole)},
		{Name: "DisassociateServiceRoleFromAccount", Method: "DELETE", Path: role, Call: rest.Handle(a.clearServiceRole)},
	}
}

type setServiceRoleIn struct {
	ARN string `json:"RoleArn" check:"required,len=1..2048"`
}

// serviceRoleOut has texts where other answers have numbers (greengrassv2-api §1.2).
type serviceRoleOut struct {
	AssociatedAt string `json:"AssociatedAt"`
	ARN          string `json:"RoleArn,omitempty"`
}

func (a *api) setServiceRole(ctx context.Context, in *setServiceRoleIn) (*serviceRoleOut, error) {
	r, err := a.cfg.Greengrass.SetServiceRole(ctx, in.ARN)
	if err != nil {
		return nil, err
	}
	return &serviceRoleOut{AssociatedAt: r.At.Format(time.RFC3339)}, nil
}

func (a *api) getServiceRole(ctx context.Context, _ *rest.Empty) (*serviceRoleOut, error) {
	r, err := a.cfg.Greengrass.ServiceRole(ctx)
	if err != nil {
		return nil, about("serviceRole", a.cfg.Realm.Account, err)
	}
	return &serviceRoleOut{AssociatedAt: r.At.Format(time.RFC3339), ARN: r.ARN}, nil
}

type clearServiceRoleOut struct {
	DisassociatedAt string `json:"DisassociatedAt"`
}

func (a *api) clearServiceRole(ctx context.Context, _ *rest.Empty) (*clearServiceRoleOut, error) {
	at, err := a.cfg.Greengrass.ClearServiceRole(ctx)
	if err != nil {
		return nil, err
	}
	return &clearServiceRoleOut{DisassociatedAt: at.Format(time.RFC3339)}, nil
}
