package fleetapi

import (
	"cmp"
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// defaultPriority is that of a rule that names none.
const defaultPriority = 100

func actor(ctx context.Context) string {
	by, _ := ctx.Value(keyActor).(string)
	return by
}

func (s *server) ListEnrollmentRequests(ctx context.Context, r gen.ListEnrollmentRequestsRequestObject) (gen.ListEnrollmentRequestsResponseObject, error) {
	after, err := fromToken(r.Params.ExclusiveStartToken)
	if err != nil {
		return nil, err
	}
	p := page(opt(r.Params.Count), after)
	f := enrollment.RequestFilter{Status: enrollment.Status(opt(r.Params.Status)), Name: opt(r.Params.Name)}
	list, next, err := s.Enrollments.Requests(ctx, f, p.After, cmp.Or(p.Count, fleet.MaxPage))
	if err != nil {
		return nil, fmt.Errorf("listing enrolment requests: %w", err)
	}
	return gen.ListEnrollmentRequests200ApplicationVndAwsCdfV10PlusJSONResponse{
		Requests: each(list, enrollmentRequest), Pagination: pagination(opt(r.Params.Count), api.LastEvaluated{NextToken: toToken(next)}),
	}, nil
}

func (s *server) GetEnrollmentRequest(ctx context.Context, r gen.GetEnrollmentRequestRequestObject) (gen.GetEnrollmentRequestResponseObject, error) {
	q, err := s.Enrollments.Request(ctx, r.RequestID)
	if err != nil {
		return nil, fmt.Errorf("reading enrolment request %s: %w", r.RequestID, err)
	}
	return gen.GetEnrollmentRequest200ApplicationVndAwsCdfV10PlusJSONResponse{EnrollmentRequestFoundApplicationVndAwsCdfV10PlusJSONResponse: found(q)}, nil
}

func (s *server) DeleteEnrollmentRequest(ctx context.Context, r gen.DeleteEnrollmentRequestRequestObject) (gen.DeleteEnrollmentRequestResponseObject, error) {
	if err := s.Enrollments.DeleteRequest(ctx, r.RequestID, actor(ctx)); err != nil {
		return nil, fmt.Errorf("forgetting enrolment request %s: %w", r.RequestID, err)
	}
	return gen.DeleteEnrollmentRequest204Response{}, nil
}

func (s *server) ApproveEnrollmentRequest(ctx context.Context, r gen.ApproveEnrollmentRequestRequestObject) (gen.ApproveEnrollmentRequestResponseObject, error) {
	b := r.Body
	q, err := s.Enrollments.Approve(ctx, r.RequestID, enrollment.Approval{By: actor(ctx), Name: b.Name, Reason: b.Reason, Create: enrollment.Creation{
		ProvisioningTemplate: b.ProvisioningTemplate, Parameters: b.ProvisioningParameters, CoreVersion: b.CoreVersion,
		ConfigFileGenerator: b.ConfigFileGenerator, ConfigOverlay: b.ConfigOverlay, Core: b.CoreName,
	}})
	if err != nil {
		return nil, fmt.Errorf("approving enrolment request %s: %w", r.RequestID, err)
	}
	return gen.ApproveEnrollmentRequest200ApplicationVndAwsCdfV10PlusJSONResponse{EnrollmentRequestFoundApplicationVndAwsCdfV10PlusJSONResponse: found(q)}, nil
}

func (s *server) DenyEnrollmentRequest(ctx context.Context, r gen.DenyEnrollmentRequestRequestObject) (gen.DenyEnrollmentRequestResponseObject, error) {
	q, err := s.Enrollments.Deny(ctx, r.RequestID, actor(ctx), r.Body.Reason)
	if err != nil {
		return nil, fmt.Errorf("denying enrolment request %s: %w", r.RequestID, err)
	}
	return gen.DenyEnrollmentRequest200ApplicationVndAwsCdfV10PlusJSONResponse{EnrollmentRequestFoundApplicationVndAwsCdfV10PlusJSONResponse: found(q)}, nil
}

func (s *server) ListEnrollmentRules(ctx context.Context, _ gen.ListEnrollmentRulesRequestObject) (gen.ListEnrollmentRulesResponseObject, error) {
	list, err := s.Enrollments.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing enrolment rules: %w", err)
	}
	return gen.ListEnrollmentRules200ApplicationVndAwsCdfV10PlusJSONResponse{Rules: each(list, enrollmentRule)}, nil
}

func (s *server) GetEnrollmentRule(ctx context.Context, r gen.GetEnrollmentRuleRequestObject) (gen.GetEnrollmentRuleResponseObject, error) {
	rule, err := s.Enrollments.Rule(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading enrolment rule %s: %w", r.Name, err)
	}
	return gen.GetEnrollmentRule200ApplicationVndAwsCdfV10PlusJSONResponse{EnrollmentRuleFoundApplicationVndAwsCdfV10PlusJSONResponse: ruleFound(rule)}, nil
}

func (s *server) PutEnrollmentRule(ctx context.Context, r gen.PutEnrollmentRuleRequestObject) (gen.PutEnrollmentRuleResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	b := r.Body
	rule, err := s.Enrollments.PutRule(ctx, r.Name, enrollment.NewRule{
		Description: b.Description, Priority: cmp.Or(b.Priority, defaultPriority), Action: enrollment.Action(b.Action),
		Names: b.Names, Networks: b.Networks, Serials: b.Serials,
		Roles: each(b.Roles, func(r api.AgentRole) protocol.Role { return protocol.Role(r) }),
		Ways:  each(b.Ways, func(w api.EnrollmentRuleWay) enrollment.Way { return enrollment.Way(w) }),
		Create: enrollment.Creation{
			ProvisioningTemplate: b.Create.ProvisioningTemplate, Parameters: b.Create.ProvisioningParameters, CoreVersion: b.Create.CoreVersion,
			ConfigFileGenerator: b.Create.ConfigFileGenerator, ConfigOverlay: b.Create.ConfigOverlay, Core: b.Create.CoreName,
		},
	}, actor(ctx), version)
	if err != nil {
		return nil, fmt.Errorf("storing enrolment rule %s: %w", r.Name, err)
	}
	return gen.PutEnrollmentRule200ApplicationVndAwsCdfV10PlusJSONResponse{EnrollmentRuleFoundApplicationVndAwsCdfV10PlusJSONResponse: ruleFound(rule)}, nil
}

func (s *server) PutEnrollmentSerials(ctx context.Context, r gen.PutEnrollmentSerialsRequestObject) (gen.PutEnrollmentSerialsResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	rule, err := s.Enrollments.PutSerials(ctx, r.Name, []byte(r.Body.List), actor(ctx), version)
	if err != nil {
		return nil, fmt.Errorf("storing the serials of enrolment rule %s: %w", r.Name, err)
	}
	return gen.PutEnrollmentSerials200ApplicationVndAwsCdfV10PlusJSONResponse{EnrollmentRuleFoundApplicationVndAwsCdfV10PlusJSONResponse: ruleFound(rule)}, nil
}

func (s *server) DeleteEnrollmentRule(ctx context.Context, r gen.DeleteEnrollmentRuleRequestObject) (gen.DeleteEnrollmentRuleResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.Enrollments.DeleteRule(ctx, r.Name, actor(ctx), version); err != nil {
		return nil, fmt.Errorf("deleting enrolment rule %s: %w", r.Name, err)
	}
	return gen.DeleteEnrollmentRule204Response{}, nil
}

func found(q enrollment.Request) gen.EnrollmentRequestFoundApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.EnrollmentRequestFoundApplicationVndAwsCdfV10PlusJSONResponse(enrollmentRequest(q))
}

func enrollmentRequest(q enrollment.Request) api.EnrollmentRequest {
	out := api.EnrollmentRequest{
		RequestID: q.ID, Name: q.Name, Role: api.AgentRole(q.Role), Serial: q.Serial, Platform: q.Platform, Address: q.Address,
		Way: api.EnrollmentWay(q.Way), ClaimCertificateID: q.Claim, Status: api.EnrollmentStatus(q.Status),
		FirstAsked: api.At(q.FirstAsked), LastAsked: api.At(q.LastAsked), Message: q.Message, TaskID: q.Task, CertificateID: q.Certificate,
	}
	if d := q.Decision; d != nil {
		out.Decision = api.EnrollmentDecision{By: d.By, Rule: d.Rule, At: api.At(d.At), Reason: d.Reason}
	}
	return out
}

func ruleFound(r enrollment.Rule) gen.EnrollmentRuleFoundApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.EnrollmentRuleFoundApplicationVndAwsCdfV10PlusJSONResponse{
		Body: enrollmentRule(r), Headers: gen.EnrollmentRuleFoundResponseHeaders{ETag: entityTag(r.Version)},
	}
}

func enrollmentRule(r enrollment.Rule) api.EnrollmentRule {
	c := r.Create
	return api.EnrollmentRule{
		Name: r.Name, Version: r.Version, Description: r.Description, Priority: r.Priority, Action: api.EnrollmentAction(r.Action),
		Names: r.Names, Networks: r.Networks, Serials: r.Serials, SerialCount: r.SerialCount,
		Roles: each(r.Roles, func(r protocol.Role) api.AgentRole { return api.AgentRole(r) }),
		Ways:  each(r.Ways, func(w enrollment.Way) api.EnrollmentRuleWay { return api.EnrollmentRuleWay(w) }),
		Create: api.EnrollmentCreation{
			ProvisioningTemplate: c.ProvisioningTemplate, ProvisioningParameters: c.Parameters, CoreVersion: c.CoreVersion,
			ConfigFileGenerator: c.ConfigFileGenerator, ConfigOverlay: c.ConfigOverlay, CoreName: c.Core,
		},
		CreatedAt: api.At(r.CreatedAt), UpdatedAt: api.At(r.UpdatedAt),
	}
}
