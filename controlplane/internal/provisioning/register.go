package provisioning

import (
	"context"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// ParsePlain is Parse for a template that comes with the call that carries it out:
// it has no CDF section, since nobody looked at it before.
func ParsePlain(b []byte) (*Template, error) {
	t, err := Parse(b)
	if err == nil && t.extended {
		return nil, fault.Field("CDF", "is not known here; a template that comes with a call has Parameters and Resources")
	}
	return t, err
}

// Register carries out a template of ParsePlain, as RegisterThing of AWS IoT does
// (iot-api §17). The ARNs are named by the template's logical names. While another
// Register for the same thing runs in this process it is fault.Conflict. A
// parameter without value is fault.Invalid.
func (s *Service) Register(ctx context.Context, t *Template, parameters map[string]string) (Provisioned, error) {
	p, err := s.p.prepare(ctx, t, Request{Parameters: parameters}, CDFParameters{})
	if err != nil {
		return Provisioned{}, err
	}
	if p.Deferred != nil {
		return Provisioned{}, needsCSR(p.Deferred)
	}
	if _, busy := s.busy.LoadOrStore(p.ThingName, struct{}{}); busy {
		return Provisioned{}, fault.New(fault.Conflict, "thing %s is being registered by another call; try again when it is done", p.ThingName)
	}
	defer s.busy.Delete(p.ThingName)
	out, err := s.register(ctx, p)
	if err != nil {
		return Provisioned{}, err
	}
	out.ResourceARNs = s.p.logicalARNs(p)
	return out, nil
}
