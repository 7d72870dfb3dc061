package greengrass

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// ServiceRole is the role that the account gave to the service. Nothing here takes
// it on: clients set and read it.
type ServiceRole struct {
	ARN string    `json:"roleArn"`
	At  time.Time `json:"associatedAt"` // seconds
}

const serviceRoleKey = prefix + "service-role"

var rolePattern = regexp.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)

// SetServiceRole makes arn the account's service role, in place of the one before.
func (s *Service) SetServiceRole(ctx context.Context, arn string) (ServiceRole, error) {
	if !rolePattern.MatchString(arn) {
		return ServiceRole{}, fault.Field("RoleArn", "%.200q is not the ARN of a role: want arn:aws:iam::ACCOUNT:role/NAME", arn)
	}
	r, err := state.Update(ctx, s.store, state.StepAccount, serviceRoleKey, func(r *ServiceRole, _ bool, _ *state.Batch) error {
		*r = ServiceRole{ARN: arn, At: s.now().UTC().Truncate(time.Second)}
		return nil
	})
	if err != nil {
		return ServiceRole{}, fmt.Errorf("set the service role: %w", err)
	}
	return r.Value, nil
}

// ServiceRole returns the account's service role, or fault.NotFound.
func (s *Service) ServiceRole(ctx context.Context) (ServiceRole, error) {
	r, err := state.Read[ServiceRole](ctx, s.store, serviceRoleKey)
	if errors.Is(err, fault.NotFound) {
		return ServiceRole{}, fault.New(fault.NotFound, "no service role is associated with this account")
	}
	return r.Value, err
}

// ClearServiceRole forgets the account's service role, if it has one, and returns
// when that was.
func (s *Service) ClearServiceRole(ctx context.Context) (time.Time, error) {
	if _, err := s.store.Commit(ctx, state.NewBatch(state.StepAccount).Delete(serviceRoleKey)); err != nil {
		return time.Time{}, fmt.Errorf("clear the service role: %w", err)
	}
	return s.now().UTC().Truncate(time.Second), nil
}
