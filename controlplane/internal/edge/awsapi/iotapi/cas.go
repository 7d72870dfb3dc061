package iotapi

import (
	"context"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) caOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "GetRegistrationCode", Method: http.MethodGet, Path: "/registrationcode", Call: rest.Handle(a.getRegistrationCode)},
		{Name: "DeleteRegistrationCode", Method: http.MethodDelete, Path: "/registrationcode", Call: rest.Handle(a.deleteRegistrationCode)},
		{Name: "RegisterCACertificate", Method: http.MethodPost, Path: "/cacertificate", Call: rest.Handle(a.registerCA)},
		{Name: "DescribeCACertificate", Method: http.MethodGet, Path: "/cacertificate/{caCertificateId}", Call: rest.Handle(a.describeCA)},
		{Name: "UpdateCACertificate", Method: http.MethodPut, Path: "/cacertificate/{caCertificateId}", Call: rest.Handle(a.updateCA)},
		{Name: "DeleteCACertificate", Method: http.MethodDelete, Path: "/cacertificate/{caCertificateId}", Call: rest.Handle(a.deleteCA)},
		{Name: "ListCACertificates", Method: http.MethodGet, Path: "/cacertificates", Call: rest.Handle(a.listCAs)},
	}
}

type registrationCodeOut struct {
	Code string `json:"registrationCode"`
}

func (a *api) getRegistrationCode(ctx context.Context, _ *rest.Empty) (*registrationCodeOut, error) {
	code, err := a.cfg.Registry.RegistrationCode(ctx)
	if err != nil {
		return nil, err
	}
	return &registrationCodeOut{code}, nil
}

func (a *api) deleteRegistrationCode(ctx context.Context, _ *rest.Empty) (*rest.Empty, error) {
	return nil, a.cfg.Registry.DeleteRegistrationCode(ctx)
}

type registrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty" check:"len=0..10240"`
	RoleARN      string `json:"roleArn,omitempty" check:"len=20..2048"`
	TemplateName string `json:"templateName,omitempty" check:"len=1..36,pattern=template"`
}

func (c *registrationConfig) domain() *iot.RegistrationConfig {
	if c == nil {
		return nil
	}
	return &iot.RegistrationConfig{TemplateBody: c.TemplateBody, RoleARN: c.RoleARN, TemplateName: c.TemplateName}
}

type registerCAIn struct {
	PEM          string              `json:"caCertificate" check:"required,len=1..65536"`
	Verification string              `json:"verificationCertificate" check:"len=1..65536"`
	Active       bool                `query:"setAsActive"`
	Auto         bool                `query:"allowAutoRegistration"`
	Registration *registrationConfig `json:"registrationConfig"`
	Tags         []tag               `json:"tags"`
	Mode         string              `json:"certificateMode" check:"enum=DEFAULT|SNI_ONLY"`
}

func (a *api) registerCA(ctx context.Context, in *registerCAIn) (*certificateOut, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	mode := iot.ModeDefault
	if in.Mode != "" {
		mode = iot.CertificateMode(in.Mode)
	}
	ca, err := a.cfg.Registry.RegisterCA(ctx, iot.NewCA{
		PEM: in.PEM, Verification: in.Verification, Mode: mode, Active: in.Active, AutoRegistration: in.Auto,
		Registration: in.Registration.domain(), Tags: tags,
	})
	if err != nil {
		id := idOf(in.PEM)
		return nil, exists(id, a.cfg.Realm.CACertificate(id), refused(err))
	}
	return &certificateOut{ARN: a.cfg.Realm.CACertificate(ca.ID), ID: ca.ID}, nil
}

type caIn struct {
	ID string `path:"caCertificateId" check:"len=64..64,pattern=hex"`
}

type describeCAOut struct {
	Description  caDescription       `json:"certificateDescription"`
	Registration *registrationConfig `json:"registrationConfig,omitempty"`
}

type caDescription struct {
	ARN        string                  `json:"certificateArn"`
	ID         string                  `json:"certificateId"`
	Status     cloud.CertificateStatus `json:"status"`
	PEM        string                  `json:"certificatePem"`
	OwnedBy    string                  `json:"ownedBy"`
	CreatedAt  rest.Time               `json:"creationDate"`
	Auto       string                  `json:"autoRegistrationStatus"`
	ModifiedAt rest.Time               `json:"lastModifiedDate"`
	Version    int                     `json:"customerVersion"`
	Generation string                  `json:"generationId"`
	Validity   validity                `json:"validity"`
	Mode       iot.CertificateMode     `json:"certificateMode"`
}

func (a *api) describeCA(ctx context.Context, in *caIn) (*describeCAOut, error) {
	c, err := a.cfg.Registry.CACertificate(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	auto := "DISABLE"
	if c.AutoRegistration {
		auto = "ENABLE"
	}
	out := &describeCAOut{Description: caDescription{
		ARN: a.cfg.Realm.CACertificate(c.ID), ID: c.ID, Status: c.Status, PEM: c.PEM, OwnedBy: a.cfg.Realm.Account,
		CreatedAt: rest.At(c.CreatedAt), Auto: auto, ModifiedAt: rest.At(c.Modified()), Version: c.Number(), Generation: generation(c.CreatedAt),
		Validity: validity{rest.At(c.NotBefore), rest.At(c.NotAfter)}, Mode: c.Mode,
	}}
	if g := c.Registration; g != nil {
		out.Registration = &registrationConfig{TemplateBody: g.TemplateBody, RoleARN: g.RoleARN, TemplateName: g.TemplateName}
	}
	return out, nil
}

type updateCAIn struct {
	ID           string              `path:"caCertificateId" check:"len=64..64,pattern=hex"`
	Status       string              `query:"newStatus" check:"enum=ACTIVE|INACTIVE"`
	Auto         string              `query:"newAutoRegistrationStatus" check:"enum=ENABLE|DISABLE"`
	Registration *registrationConfig `json:"registrationConfig"`
	Remove       bool                `json:"removeAutoRegistration"`
}

func (a *api) updateCA(ctx context.Context, in *updateCAIn) (*rest.Empty, error) {
	c := iot.CAChange{Registration: in.Registration.domain(), RemoveRegistration: in.Remove}
	if in.Status != "" {
		c.Active = new(in.Status == string(cloud.Active))
	}
	if in.Auto != "" {
		c.AutoRegistration = new(in.Auto == "ENABLE")
	}
	if in.Remove && in.Auto == "ENABLE" {
		return nil, fault.Field("removeAutoRegistration", "is true although newAutoRegistrationStatus is ENABLE")
	}
	return nil, refused(a.cfg.Registry.UpdateCA(ctx, in.ID, c))
}

func (a *api) deleteCA(ctx context.Context, in *caIn) (*rest.Empty, error) {
	return nil, refused(a.cfg.Registry.DeleteCA(ctx, in.ID))
}

type listCAsIn struct {
	PageSize  *int32 `query:"pageSize" check:"range=1..250"`
	Marker    string `query:"marker"`
	Ascending bool   `query:"isAscendingOrder"`
	Template  string `query:"templateName" check:"len=1..36,pattern=template"`
}

func (a *api) listCAs(ctx context.Context, in *listCAsIn) (*listCertificatesOut, error) {
	filters := []string{"cas", in.Template}
	page, err := pageOf(in.PageSize, in.Marker, in.Ascending, filters)
	if err != nil {
		return nil, err
	}
	list, next, err := a.cfg.Registry.CACertificates(ctx, in.Template, page)
	if err != nil {
		return nil, err
	}
	out := &listCertificatesOut{Certificates: []certificateSummary{}, Next: nextMarker(next, in.Ascending, filters)}
	for _, c := range list {
		out.Certificates = append(out.Certificates, certificateSummary{
			ARN: a.cfg.Realm.CACertificate(c.ID), ID: c.ID, Status: c.Status, CreatedAt: rest.At(c.CreatedAt),
		})
	}
	return out, nil
}
