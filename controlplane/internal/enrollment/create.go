package enrollment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Creation is how to create the core or client device that a request is for when
// there is none. The zero value is a good one for a core: its key is made on the
// device.
type Creation struct {
	ProvisioningTemplate string            `json:"provisioningTemplate,omitempty"`   // empty: device-key
	Parameters           map[string]string `json:"provisioningParameters,omitempty"` // ThingName is the name, unless given
	CoreVersion          string            `json:"coreVersion,omitempty"`            // of the nucleus; empty: of the one that agents are offered
	ConfigFileGenerator  string            `json:"configFileGenerator,omitempty"`
	ConfigOverlay        json.RawMessage   `json:"configOverlay,omitempty"`
	Core                 string            `json:"coreName,omitempty"` // that a client device belongs to
}

const maxParameters = 100

func (c Creation) check() error {
	if c.ProvisioningTemplate != "" {
		if err := names.CheckProvisioningTemplate(c.ProvisioningTemplate); err != nil {
			return fault.Field("provisioningTemplate", "%s", fault.Message(err))
		}
	}
	if c.Core != "" {
		if err := names.CheckThing(c.Core); err != nil {
			return fault.Field("coreName", "%s", fault.Message(err))
		}
	}
	if len(c.Parameters) > maxParameters {
		return fault.Field("provisioningParameters", "has %d members, at most %d are taken", len(c.Parameters), maxParameters)
	}
	return nil
}

// made reports whether the core or client device of an approved request exists, and
// creates it if not. Why it cannot be created lets the request wait again.
func (s *Service) made(ctx context.Context, r *Request) (bool, error) {
	exists, err := s.there(ctx, r)
	switch {
	case err != nil || exists || r.Status != Approved:
		return exists, err
	case r.Task == "":
		return false, s.create(ctx, r)
	}
	ended, failure, err := s.cfg.Creator.SubjectCreated(ctx, r.Subject(), r.Task)
	switch {
	case err != nil && !errors.Is(err, fault.NotFound):
		return false, fmt.Errorf("look up task %s: %w", r.Task, err)
	case err != nil:
		failure = "task " + r.Task + " is gone"
	case !ended:
		return false, nil
	case failure == "": // in this moment, or it was deleted since
		if exists, err = s.there(ctx, r); err != nil || exists || r.Status != Approved {
			return exists, err
		}
		failure = fmt.Sprintf("%s was created by task %s and does not exist any more", r.Name, r.Task)
	}
	return false, s.unmade(ctx, r, cannot+failure)
}

// there reports whether core or client device exist. A name that the other role has
// lets the request wait again.
func (s *Service) there(ctx context.Context, r *Request) (bool, error) {
	subject, err := s.subject(ctx, r.Name)
	switch {
	case errors.Is(err, fault.NotFound):
		return false, nil
	case err != nil:
		return false, err
	case subject.Role != r.Role:
		return false, s.unmade(ctx, r, fmt.Sprintf(cannot+"%s is a %s, but the device asks to be a %s", r.Name, kindOf(subject.Role), kindOf(r.Role)))
	}
	return true, nil
}

// create starts the task. It is the same one when it is started again.
func (s *Service) create(ctx context.Context, r *Request) error {
	how := Creation{}
	if r.Decision != nil && r.Decision.Create != nil {
		how = *r.Decision.Create
	}
	task, err := s.cfg.Creator.CreateSubject(ctx, protocol.Subject{Role: r.Role, Name: r.Name}, how, "enrollment-"+r.ID+"-"+strconv.Itoa(r.Attempt))
	if fault.Permanent(err) || errors.Is(err, fault.Conflict) {
		return s.unmade(ctx, r, cannot+fault.Message(err))
	}
	if err != nil {
		return fmt.Errorf("create %s %s: %w", r.Role, r.Name, err)
	}
	attempt := r.Attempt
	*r, err = s.change(ctx, r.ID, func(now *Request) error {
		if now.Status != Approved || now.Attempt != attempt {
			return state.ErrKeep
		}
		now.Task = task
		return nil
	})
	return err
}

const cannot = "it cannot be created: "

// unmade lets a request wait again that was approved and cannot be carried out.
func (s *Service) unmade(ctx context.Context, r *Request, why string) (err error) {
	attempt := r.Attempt
	*r, err = s.change(ctx, r.ID, func(now *Request) error {
		if now.Status != Approved || now.Attempt != attempt {
			return state.ErrKeep
		}
		now.Status, now.Task = Waiting, ""
		if now.Assigned {
			now.Name, now.Assigned = "", false
		}
		now.Message = "approved, but " + why
		if now.Decision != nil && now.Decision.Rule != "" {
			now.Failed = now.Decision.Version // another version of the rule may do better
		} else {
			now.Manual = true
		}
		return nil
	})
	return err
}
