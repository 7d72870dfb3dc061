package iotapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) policyOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "CreatePolicy", Method: http.MethodPost, Path: "/policies/{policyName}", Call: rest.Handle(a.createPolicy)},
		{Name: "GetPolicy", Method: http.MethodGet, Path: "/policies/{policyName}", Call: rest.Handle(a.getPolicy)},
		{Name: "DeletePolicy", Method: http.MethodDelete, Path: "/policies/{policyName}", Call: rest.Handle(a.deletePolicy)},
		{Name: "ListPolicies", Method: http.MethodGet, Path: "/policies", Call: rest.Handle(a.listPolicies)},
		{Name: "CreatePolicyVersion", Method: http.MethodPost, Path: "/policies/{policyName}/version", Call: rest.Handle(a.createVersion)},
		{Name: "GetPolicyVersion", Method: http.MethodGet, Path: "/policies/{policyName}/version/{policyVersionId}", Call: rest.Handle(a.getVersion)},
		{Name: "ListPolicyVersions", Method: http.MethodGet, Path: "/policies/{policyName}/version", Call: rest.Handle(a.listVersions)},
		{Name: "SetDefaultPolicyVersion", Method: http.MethodPatch, Path: "/policies/{policyName}/version/{policyVersionId}", Call: rest.Handle(a.setDefaultVersion)},
		{Name: "DeletePolicyVersion", Method: http.MethodDelete, Path: "/policies/{policyName}/version/{policyVersionId}", Call: rest.Handle(a.deleteVersion)},
	}
}

type createPolicyIn struct {
	Name     string `path:"policyName" check:"len=1..128,pattern=policy"`
	Document string `json:"policyDocument" check:"required,len=0..404600"`
	Tags     []tag  `json:"tags"`
}

type createPolicyOut struct {
	Name     string `json:"policyName"`
	ARN      string `json:"policyArn"`
	Document string `json:"policyDocument"`
	Version  string `json:"policyVersionId"`
}

func (a *api) createPolicy(ctx context.Context, in *createPolicyIn) (*createPolicyOut, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	arn := a.cfg.Realm.Policy(in.Name)
	p, err := a.cfg.Registry.CreatePolicy(ctx, in.Name, in.Document, tags)
	if err != nil {
		return nil, exists(in.Name, arn, refused(err))
	}
	return &createPolicyOut{Name: p.Name, ARN: arn, Document: p.Document, Version: strconv.Itoa(p.Version().Number)}, nil
}

type policyIn struct {
	Name string `path:"policyName" check:"len=1..128,pattern=policy"`
}

type getPolicyOut struct {
	Name       string    `json:"policyName"`
	ARN        string    `json:"policyArn"`
	Document   string    `json:"policyDocument"`
	Default    string    `json:"defaultVersionId"`
	CreatedAt  rest.Time `json:"creationDate"`
	ModifiedAt rest.Time `json:"lastModifiedDate"`
	Generation string    `json:"generationId"`
}

func (a *api) getPolicy(ctx context.Context, in *policyIn) (*getPolicyOut, error) {
	p, err := a.cfg.Registry.Policy(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &getPolicyOut{
		Name: p.Name, ARN: a.cfg.Realm.Policy(p.Name), Document: p.Document, Default: strconv.Itoa(p.Version().Number),
		CreatedAt: rest.At(p.CreatedAt), ModifiedAt: rest.At(p.Modified()), Generation: generation(p.CreatedAt),
	}, nil
}

func (a *api) deletePolicy(ctx context.Context, in *policyIn) (*rest.Empty, error) {
	return nil, refused(a.cfg.Registry.DeletePolicy(ctx, in.Name))
}

type listPoliciesIn struct {
	Marker    string `query:"marker"`
	PageSize  *int32 `query:"pageSize" check:"range=1..250"`
	Ascending bool   `query:"isAscendingOrder"`
}

type listPoliciesOut struct {
	Policies []policyName `json:"policies"`
	Next     string       `json:"nextMarker,omitempty"`
}

type policyName struct {
	Name string `json:"policyName"`
	ARN  string `json:"policyArn"`
}

func (a *api) listPolicies(ctx context.Context, in *listPoliciesIn) (*listPoliciesOut, error) {
	filters := []string{"policies"}
	page, err := pageOf(in.PageSize, in.Marker, in.Ascending, filters)
	if err != nil {
		return nil, err
	}
	list, next, err := a.cfg.Registry.Policies(ctx, page)
	if err != nil {
		return nil, err
	}
	out := &listPoliciesOut{Policies: []policyName{}, Next: nextMarker(next, in.Ascending, filters)}
	for _, p := range list {
		out.Policies = append(out.Policies, policyName{p.Name, a.cfg.Realm.Policy(p.Name)})
	}
	return out, nil
}

type createVersionIn struct {
	Name     string `path:"policyName" check:"len=1..128,pattern=policy"`
	Document string `json:"policyDocument" check:"required,len=0..404600"`
	Default  bool   `query:"setAsDefault"`
}

type createVersionOut struct {
	ARN      string `json:"policyArn"`
	Document string `json:"policyDocument"`
	Version  string `json:"policyVersionId"`
	Default  bool   `json:"isDefaultVersion"`
}

func (a *api) createVersion(ctx context.Context, in *createVersionIn) (*createVersionOut, error) {
	v, err := a.cfg.Registry.CreatePolicyVersion(ctx, in.Name, in.Document, in.Default)
	if err != nil {
		return nil, refused(err)
	}
	return &createVersionOut{ARN: a.cfg.Realm.Policy(in.Name), Document: v.Document, Version: strconv.Itoa(v.Number), Default: v.Default}, nil
}

type versionIn struct {
	Name    string `path:"policyName" check:"len=1..128,pattern=policy"`
	Version string `path:"policyVersionId" check:"pattern=versionId"`
}

// number is the version; no policy has one that is no int32.
func (in *versionIn) number() (int, error) {
	n, err := strconv.ParseInt(in.Version, 10, 32)
	if err != nil {
		return 0, fault.New(fault.NotFound, "policy %s has no version %.20s", in.Name, in.Version)
	}
	return int(n), nil
}

type getVersionOut struct {
	ARN        string    `json:"policyArn"`
	Name       string    `json:"policyName"`
	Document   string    `json:"policyDocument"`
	Version    string    `json:"policyVersionId"`
	Default    bool      `json:"isDefaultVersion"`
	CreatedAt  rest.Time `json:"creationDate"`
	ModifiedAt rest.Time `json:"lastModifiedDate"`
	Generation string    `json:"generationId"`
}

func (a *api) getVersion(ctx context.Context, in *versionIn) (*getVersionOut, error) {
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	p, v, err := a.cfg.Registry.PolicyVersion(ctx, in.Name, n)
	if err != nil {
		return nil, err
	}
	return &getVersionOut{
		ARN: a.cfg.Realm.Policy(p.Name), Name: p.Name, Document: v.Document, Version: strconv.Itoa(v.Number), Default: v.Default,
		CreatedAt: rest.At(v.CreatedAt), ModifiedAt: rest.At(v.CreatedAt), Generation: generation(p.CreatedAt),
	}, nil
}

type listVersionsOut struct {
	Versions []policyVersion `json:"policyVersions"`
}

type policyVersion struct {
	ID        string    `json:"versionId"`
	Default   bool      `json:"isDefaultVersion"`
	CreatedAt rest.Time `json:"createDate"`
}

func (a *api) listVersions(ctx context.Context, in *policyIn) (*listVersionsOut, error) {
	list, err := a.cfg.Registry.PolicyVersions(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	out := &listVersionsOut{Versions: []policyVersion{}}
	for _, v := range list {
		out.Versions = append(out.Versions, policyVersion{strconv.Itoa(v.Number), v.Default, rest.At(v.CreatedAt)})
	}
	return out, nil
}

func (a *api) setDefaultVersion(ctx context.Context, in *versionIn) (*rest.Empty, error) {
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	return nil, refused(a.cfg.Registry.SetDefaultPolicyVersion(ctx, in.Name, n))
}

func (a *api) deleteVersion(ctx context.Context, in *versionIn) (*rest.Empty, error) {
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	return nil, refused(a.cfg.Registry.DeletePolicyVersion(ctx, in.Name, n))
}
