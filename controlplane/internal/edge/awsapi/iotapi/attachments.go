package iotapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

func (a *api) attachmentOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "AttachPolicy", Method: http.MethodPut, Path: "/target-policies/{policyName}", Call: rest.Handle(a.attachPolicy)},
		{Name: "DetachPolicy", Method: http.MethodPost, Path: "/target-policies/{policyName}", Call: rest.Handle(a.detachPolicy)},
		{Name: "ListAttachedPolicies", Method: http.MethodPost, Path: "/attached-policies/{target}", Reads: true, Call: rest.Handle(a.listAttached)},
		{Name: "ListTargetsForPolicy", Method: http.MethodPost, Path: "/policy-targets/{policyName}", Reads: true, Call: rest.Handle(a.listTargets)},
		{Name: "GetEffectivePolicies", Method: http.MethodPost, Path: "/effective-policies", Reads: true, Call: rest.Handle(a.effectivePolicies)},
	}
}

// target is what an ARN names that a policy can be attached to.
func (a *api) target(arn string) (iot.Target, error) {
	if g, ok := strings.CutPrefix(arn, a.cfg.Realm.ThingGroup("")); ok && names.CheckThingGroup(g) == nil {
		return iot.Target{Group: g}, nil
	}
	if id, err := a.certificateOf("target", arn); err == nil {
		return iot.Target{Certificate: id}, nil
	}
	return iot.Target{}, fault.Field("target", "is %.200q, want the ARN of a certificate or thing group of this account and region", arn)
}

type targetIn struct {
	Policy string `path:"policyName" check:"len=1..128,pattern=policy"`
	Target string `json:"target" check:"required"`
}

func (a *api) attachPolicy(ctx context.Context, in *targetIn) (*rest.Empty, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Registry.AttachPolicy(ctx, in.Policy, t)
}

func (a *api) detachPolicy(ctx context.Context, in *targetIn) (*rest.Empty, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Registry.DetachPolicy(ctx, in.Policy, t)
}

type listAttachedIn struct {
	Target    string `path:"target" check:"len=1.."`
	Recursive bool   `query:"recursive"`
	Marker    string `query:"marker"`
	PageSize  *int32 `query:"pageSize" check:"range=1..250"`
}

func (a *api) listAttached(ctx context.Context, in *listAttachedIn) (*listPoliciesOut, error) {
	filters := []string{"attached", in.Target, strconv.FormatBool(in.Recursive)}
	after, err := rest.AfterMarker(in.Marker, filters...)
	if err != nil {
		return nil, err
	}
	t, err := a.target(in.Target)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Registry.AttachedPolicies(ctx, t, in.Recursive)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(slices.Sorted(slices.Values(list)), func(n string) bool { return n <= after })
	out := &listPoliciesOut{Policies: []policyName{}}
	for i, n := range list {
		if i == rest.Limit(in.PageSize, markerPage) {
			out.Next = rest.Token(list[i-1], filters...)
			break
		}
		out.Policies = append(out.Policies, policyName{n, a.cfg.Realm.Policy(n)})
	}
	return out, nil
}

type listTargetsIn struct {
	Policy   string `path:"policyName" check:"len=1..128,pattern=policy"`
	Marker   string `query:"marker"`
	PageSize *int32 `query:"pageSize" check:"range=1..250"`
}

type listTargetsOut struct {
	Targets []string `json:"targets"`
	Next    string   `json:"nextMarker,omitempty"`
}

func (a *api) listTargets(ctx context.Context, in *listTargetsIn) (*listTargetsOut, error) {
	after, err := rest.AfterMarker(in.Marker, "targets", in.Policy)
	if err != nil {
		return nil, err
	}
	list, next, err := a.cfg.Registry.PolicyTargets(ctx, in.Policy, after, rest.Limit(in.PageSize, markerPage))
	if err != nil {
		return nil, err
	}
	out := &listTargetsOut{Targets: []string{}}
	if next != "" {
		out.Next = rest.Token(next, "targets", in.Policy)
	}
	for _, t := range list {
		if t.Certificate != "" {
			out.Targets = append(out.Targets, a.cfg.Realm.Certificate(t.Certificate))
		} else {
			out.Targets = append(out.Targets, a.cfg.Realm.ThingGroup(t.Group))
		}
	}
	return out, nil
}

type effectivePoliciesIn struct {
	Principal string `json:"principal"`
	Pool      string `json:"cognitoIdentityPoolId"`
	Thing     string `query:"thingName" check:"len=1..128,pattern=thing"`
}

type effectivePoliciesOut struct {
	Policies []effectivePolicy `json:"effectivePolicies"`
}

type effectivePolicy struct {
	Name     string `json:"policyName"`
	ARN      string `json:"policyArn"`
	Document string `json:"policyDocument"`
}

func (a *api) effectivePolicies(ctx context.Context, in *effectivePoliciesIn) (*effectivePoliciesOut, error) {
	var certificate string
	var err error
	switch {
	case in.Pool != "":
		return nil, fault.Field("cognitoIdentityPoolId", "is given, but this server has no Cognito identities")
	case in.Principal != "":
		if certificate, err = a.certificateOf("principal", in.Principal); err != nil {
			return nil, err
		}
	case in.Thing == "":
		return nil, fault.Field("principal", "is missing; name a certificate, or a thing with thingName")
	}
	list, err := a.cfg.Registry.EffectivePolicies(ctx, certificate, in.Thing)
	if err != nil {
		return nil, err
	}
	out := &effectivePoliciesOut{Policies: []effectivePolicy{}}
	for _, p := range list {
		out.Policies = append(out.Policies, effectivePolicy{p.Name, a.cfg.Realm.Policy(p.Name), p.Document})
	}
	return out, nil
}
