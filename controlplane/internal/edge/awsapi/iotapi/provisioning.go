package iotapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) provisioningOperations() []rest.Operation {
	const template = "/provisioning-templates/{templateName}"
	return []rest.Operation{
		{Name: "RegisterThing", Method: http.MethodPost, Path: "/things", Call: rest.Handle(a.registerThing)},
		{Name: "CreateProvisioningTemplate", Method: http.MethodPost, Path: "/provisioning-templates", Call: rest.Handle(a.createTemplate)},
		{Name: "DescribeProvisioningTemplate", Method: http.MethodGet, Path: template, Call: rest.Handle(a.describeTemplate)},
		{Name: "UpdateProvisioningTemplate", Method: http.MethodPatch, Path: template, Call: rest.Handle(a.updateTemplate)},
		{Name: "DeleteProvisioningTemplate", Method: http.MethodDelete, Path: template, Call: rest.Handle(a.deleteTemplate)},
		{Name: "ListProvisioningTemplates", Method: http.MethodGet, Path: "/provisioning-templates", Call: rest.Handle(a.listTemplates)},
		{Name: "CreateProvisioningTemplateVersion", Method: http.MethodPost, Path: template + "/versions", Call: rest.Handle(a.createTemplateVersion)},
		{Name: "ListProvisioningTemplateVersions", Method: http.MethodGet, Path: template + "/versions", Call: rest.Handle(a.listTemplateVersions)},
		{Name: "DeleteProvisioningTemplateVersion", Method: http.MethodDelete, Path: template + "/versions/{versionId}", Call: rest.Handle(a.deleteTemplateVersion)},
		{Name: "CreateProvisioningClaim", Method: http.MethodPost, Path: template + "/provisioning-claim", Call: rest.Handle(a.createClaim)},
	}
}

type registerThingIn struct {
	Body       string            `json:"templateBody" check:"required,len=0..10240"`
	Parameters map[string]string `json:"parameters" check:"key.len=0..2048,value.len=0..4096"`
}

type registerThingOut struct {
	CertificatePEM string            `json:"certificatePem,omitempty"`
	ARNs           map[string]string `json:"resourceArns"`
}

func (a *api) registerThing(ctx context.Context, in *registerThingIn) (*registerThingOut, error) {
	out, err := a.cfg.Registrar.RegisterThing(ctx, []byte(in.Body), in.Parameters)
	if r, ok := errors.AsType[*claims.RefusedError](err); ok && fault.Permanent(r) {
		return nil, rest.Fail(http.StatusBadRequest, "ResourceRegistrationFailureException", fault.Message(r), nil)
	}
	if err != nil {
		return nil, fault.Under("templateBody", err)
	}
	return &registerThingOut{out.CertificatePEM, out.ARNs}, nil
}

// provisioningHook is what asks a Lambda function before a device is provisioned.
type provisioningHook struct {
	PayloadVersion string `json:"payloadVersion" check:"len=10..32,pattern=payloadVersion"`
	TargetARN      string `json:"targetArn" check:"required,len=0..2048"`
}

// noHook refuses a hook: a template that seems to ask and does not is worse than
// none.
func noHook(h *provisioningHook) error {
	if h == nil {
		return nil
	}
	return fault.Field("preProvisioningHook", "cannot be: this server runs no Lambda functions, and without the hook's answer a template must not provision; leave it out, and limit who gets claims")
}

type createTemplateIn struct {
	Name        string            `json:"templateName" check:"required,len=1..36,pattern=template"`
	Description string            `json:"description" check:"len=0..500,pattern=printable"`
	Body        string            `json:"templateBody" check:"required,len=0..10240"`
	Enabled     bool              `json:"enabled"`
	RoleARN     string            `json:"provisioningRoleArn" check:"required,len=20..2048"`
	Hook        *provisioningHook `json:"preProvisioningHook"`
	Tags        []tag             `json:"tags"`
	Type        string            `json:"type" check:"enum=FLEET_PROVISIONING|JITP"`
}

type createTemplateOut struct {
	ARN     string `json:"templateArn"`
	Name    string `json:"templateName"`
	Default int    `json:"defaultVersionId"`
}

func (a *api) templateARN(name string) string { return a.cfg.Realm.ProvisioningTemplate(name) }

func (a *api) createTemplate(ctx context.Context, in *createTemplateIn) (*createTemplateOut, error) {
	if err := noHook(in.Hook); err != nil {
		return nil, err
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	t, err := a.cfg.Claims.CreateTemplate(ctx, claims.NewTemplate{
		Name: in.Name, Description: in.Description, Body: in.Body, RoleARN: in.RoleARN, Kind: claims.Kind(in.Type), Enabled: in.Enabled, Tags: tags,
	})
	if err != nil {
		return nil, exists(in.Name, a.templateARN(in.Name), err)
	}
	return &createTemplateOut{a.templateARN(t.Name), t.Name, t.Default}, nil
}

type templateIn struct {
	Name string `path:"templateName" check:"len=1..36,pattern=template"`
}

type templateSummary struct {
	ARN         string    `json:"templateArn"`
	Name        string    `json:"templateName"`
	Description string    `json:"description,omitempty"`
	CreatedAt   rest.Time `json:"creationDate"`
	ModifiedAt  rest.Time `json:"lastModifiedDate"`
	Enabled     bool      `json:"enabled"`
	Type        string    `json:"type"`
}

type describeTemplateOut struct {
	templateSummary

	Default int    `json:"defaultVersionId"`
	Body    string `json:"templateBody"`
	RoleARN string `json:"provisioningRoleArn"`
}

func (a *api) summary(t claims.Template) templateSummary {
	return templateSummary{
		ARN: a.templateARN(t.Name), Name: t.Name, Description: t.Description, CreatedAt: rest.At(t.CreatedAt), ModifiedAt: rest.At(t.ModifiedAt),
		Enabled: t.Enabled, Type: string(t.Kind),
	}
}

func (a *api) describeTemplate(ctx context.Context, in *templateIn) (*describeTemplateOut, error) {
	t, body, err := a.cfg.Claims.Template(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &describeTemplateOut{a.summary(t), t.Default, body, t.RoleARN}, nil
}

type updateTemplateIn struct {
	Name        string            `path:"templateName" check:"len=1..36,pattern=template"`
	Description *string           `json:"description" check:"len=0..500,pattern=printable"`
	Enabled     *bool             `json:"enabled"`
	Default     *int32            `json:"defaultVersionId"`
	RoleARN     *string           `json:"provisioningRoleArn" check:"len=20..2048"`
	Hook        *provisioningHook `json:"preProvisioningHook"`
	RemoveHook  bool              `json:"removePreProvisioningHook"` // there is none
}

func (a *api) updateTemplate(ctx context.Context, in *updateTemplateIn) (*rest.Empty, error) {
	if err := noHook(in.Hook); err != nil {
		return nil, err
	}
	change := claims.TemplateChange{Description: in.Description, Enabled: in.Enabled, RoleARN: in.RoleARN}
	if in.Default != nil {
		change.Default = new(int(*in.Default))
	}
	return nil, a.cfg.Claims.UpdateTemplate(ctx, in.Name, change)
}

// inUse words the refusal to delete what is still referred to.
func inUse(err error) error {
	if text := fault.Message(err); text != "" && errors.Is(err, fault.Conflict) {
		return rest.Fail(http.StatusConflict, "DeleteConflictException", text, nil)
	}
	return err
}

func (a *api) deleteTemplate(ctx context.Context, in *templateIn) (*rest.Empty, error) {
	return nil, inUse(a.cfg.Claims.DeleteTemplate(ctx, in.Name))
}

type listTemplatesIn struct {
	MaxResults *int32 `query:"maxResults" check:"range=1..250"`
	Token      string `query:"nextToken"`
}

type listTemplatesOut struct {
	Templates []templateSummary `json:"templates"`
	Next      string            `json:"nextToken,omitempty"`
}

func (a *api) listTemplates(ctx context.Context, in *listTemplatesIn) (*listTemplatesOut, error) {
	after, err := rest.After(in.Token)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Claims.Templates(ctx)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(t claims.Template) bool { return t.Name <= after })
	out := &listTemplatesOut{Templates: []templateSummary{}}
	for i, t := range list {
		if i == rest.Limit(in.MaxResults, 25) {
			out.Next = rest.Token(list[i-1].Name)
			break
		}
		out.Templates = append(out.Templates, a.summary(t))
	}
	return out, nil
}

type createTemplateVersionIn struct {
	Name    string `path:"templateName" check:"len=1..36,pattern=template"`
	Body    string `json:"templateBody" check:"required,len=0..10240"`
	Default bool   `query:"setAsDefault"`
}

type createTemplateVersionOut struct {
	ARN       string `json:"templateArn"`
	Name      string `json:"templateName"`
	Version   int    `json:"versionId"`
	IsDefault bool   `json:"isDefaultVersion"`
}

func (a *api) createTemplateVersion(ctx context.Context, in *createTemplateVersionIn) (*createTemplateVersionOut, error) {
	n, err := a.cfg.Claims.CreateVersion(ctx, in.Name, in.Body, in.Default)
	if errors.Is(err, fault.Exhausted) {
		err = rest.Fail(http.StatusConflict, "VersionsLimitExceededException", fault.Message(err), nil)
	}
	if err != nil {
		return nil, err
	}
	return &createTemplateVersionOut{a.templateARN(in.Name), in.Name, n, in.Default}, nil
}

type listTemplateVersionsIn struct {
	Name       string `path:"templateName" check:"len=1..36,pattern=template"`
	MaxResults *int32 `query:"maxResults" check:"range=1..250"`
	Token      string `query:"nextToken"`
}

type templateVersion struct {
	ID        int       `json:"versionId"`
	CreatedAt rest.Time `json:"creationDate"`
	IsDefault bool      `json:"isDefaultVersion"`
}

type listTemplateVersionsOut struct {
	Versions []templateVersion `json:"versions"`
	Next     string            `json:"nextToken,omitempty"`
}

func (a *api) listTemplateVersions(ctx context.Context, in *listTemplateVersionsIn) (*listTemplateVersionsOut, error) {
	after, err := rest.After(in.Token, in.Name)
	if err != nil {
		return nil, err
	}
	last, _ := strconv.Atoi(after) // "" is 0, and a token is ours
	t, _, err := a.cfg.Claims.Template(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(t.Versions)), func(n int) bool { return n <= last })
	out := &listTemplateVersionsOut{Versions: []templateVersion{}}
	for i, n := range ids {
		if i == rest.Limit(in.MaxResults, 25) {
			out.Next = rest.Token(strconv.Itoa(ids[i-1]), in.Name)
			break
		}
		out.Versions = append(out.Versions, templateVersion{n, rest.At(t.Versions[n]), n == t.Default})
	}
	return out, nil
}

type templateVersionIn struct {
	Name    string `path:"templateName" check:"len=1..36,pattern=template"`
	Version int32  `path:"versionId"`
}

func (a *api) deleteTemplateVersion(ctx context.Context, in *templateVersionIn) (*rest.Empty, error) {
	return nil, inUse(a.cfg.Claims.DeleteVersion(ctx, in.Name, int(in.Version)))
}

type createClaimOut struct {
	ID         string    `json:"certificateId"`
	PEM        string    `json:"certificatePem"`
	KeyPair    claimKeys `json:"keyPair"`
	Expiration rest.Time `json:"expiration"`
}

type claimKeys struct {
	Public  string `json:"PublicKey"`
	Private string `json:"PrivateKey"`
}

func (a *api) createClaim(ctx context.Context, in *templateIn) (*createClaimOut, error) {
	c, err := a.cfg.Claims.CreateClaim(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &createClaimOut{c.ID, c.PEM, claimKeys{c.Keys.Public, c.Keys.Private}, rest.At(c.Until)}, nil
}
