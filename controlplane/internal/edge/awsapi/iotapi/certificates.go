package iotapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func (a *api) certificateOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "CreateKeysAndCertificate", Method: http.MethodPost, Path: "/keys-and-certificate", Call: rest.Handle(a.createKeys)},
		{Name: "CreateCertificateFromCsr", Method: http.MethodPost, Path: "/certificates", Call: rest.Handle(a.signCSR)},
		{Name: "RegisterCertificate", Method: http.MethodPost, Path: "/certificate/register", Call: rest.Handle(a.registerCertificate)},
		{Name: "RegisterCertificateWithoutCA", Method: http.MethodPost, Path: "/certificate/register-no-ca", Call: rest.Handle(a.registerWithoutCA)},
		{Name: "DescribeCertificate", Method: http.MethodGet, Path: "/certificates/{certificateId}", Call: rest.Handle(a.describeCertificate)},
		{Name: "ListCertificates", Method: http.MethodGet, Path: "/certificates", Call: rest.Handle(a.listCertificates)},
		{Name: "ListCertificatesByCA", Method: http.MethodGet, Path: "/certificates-by-ca/{caCertificateId}", Call: rest.Handle(a.listCertificatesByCA)},
		{Name: "UpdateCertificate", Method: http.MethodPut, Path: "/certificates/{certificateId}", Call: rest.Handle(a.updateCertificate)},
		{Name: "DeleteCertificate", Method: http.MethodDelete, Path: "/certificates/{certificateId}", Call: rest.Handle(a.deleteCertificate)},
	}
}

type certificateOut struct {
	ARN  string   `json:"certificateArn"`
	ID   string   `json:"certificateId"`
	PEM  string   `json:"certificatePem,omitempty"`
	Keys *keyPair `json:"keyPair,omitempty"`
}

type keyPair struct {
	Public  string `json:"PublicKey"`
	Private string `json:"PrivateKey"`
}

func (a *api) certificate(c iot.Certificate, keys *keyPair) *certificateOut {
	return &certificateOut{ARN: a.cfg.Realm.Certificate(c.ID), ID: c.ID, PEM: c.PEM, Keys: keys}
}

// statusOf is the status that setAsActive asks for.
func statusOf(active bool) cloud.CertificateStatus {
	if active {
		return cloud.Active
	}
	return cloud.Inactive
}

type createKeysIn struct {
	Active bool `query:"setAsActive"`
}

func (a *api) createKeys(ctx context.Context, in *createKeysIn) (*certificateOut, error) {
	c, k, err := a.cfg.Registry.CreateKeys(ctx, statusOf(in.Active))
	if err != nil {
		return nil, err
	}
	return a.certificate(c, &keyPair{k.Public, k.Private}), nil
}

type signCSRIn struct {
	CSR    string `json:"certificateSigningRequest" check:"required,len=1..4096"`
	Active bool   `query:"setAsActive"`
}

func (a *api) signCSR(ctx context.Context, in *signCSRIn) (*certificateOut, error) {
	c, err := a.cfg.Registry.SignCSR(ctx, in.CSR, statusOf(in.Active))
	if err != nil {
		return nil, refused(err)
	}
	return a.certificate(c, nil), nil
}

type registerCertificateIn struct {
	PEM    string `json:"certificatePem" check:"required,len=1..65536"`
	CAPEM  string `json:"caCertificatePem" check:"len=1..65536"`
	Active *bool  `query:"setAsActive"`
	Status string `json:"status" check:"enum=ACTIVE|INACTIVE|REVOKED|PENDING_TRANSFER|REGISTER_INACTIVE|PENDING_ACTIVATION"`
}

func (a *api) registerCertificate(ctx context.Context, in *registerCertificateIn) (*certificateOut, error) {
	status := cloud.CertificateStatus(in.Status)
	if in.Active != nil {
		if asked := statusOf(*in.Active); status != "" && status != asked {
			return nil, fault.Field("status", "is %s, but setAsActive=%t; give one of the two", status, *in.Active)
		}
		status = statusOf(*in.Active)
	}
	return a.register(ctx, cloud.ImportRequest{PEM: in.PEM, CAPEM: in.CAPEM}, status)
}

type registerWithoutCAIn struct {
	PEM    string `json:"certificatePem" check:"required,len=1..65536"`
	Status string `json:"status" check:"enum=ACTIVE|INACTIVE|REVOKED|PENDING_TRANSFER|REGISTER_INACTIVE|PENDING_ACTIVATION"`
}

func (a *api) registerWithoutCA(ctx context.Context, in *registerWithoutCAIn) (*certificateOut, error) {
	return a.register(ctx, cloud.ImportRequest{PEM: in.PEM, WithoutCA: true}, cloud.CertificateStatus(in.Status))
}

func (a *api) register(ctx context.Context, q cloud.ImportRequest, s cloud.CertificateStatus) (*certificateOut, error) {
	if s == "" {
		s = cloud.Inactive
	}
	c, err := a.cfg.Registry.RegisterCertificate(ctx, q, s)
	if err != nil {
		id := idOf(q.PEM)
		return nil, exists(id, a.cfg.Realm.Certificate(id), refused(err))
	}
	out := a.certificate(c, nil)
	out.PEM = ""
	return out, nil
}

// idOf is the id of the first certificate of a PEM, "" if there is none.
func idOf(pem string) string {
	certs, err := pki.ParseCerts([]byte(pem))
	if err != nil {
		return ""
	}
	return pki.ID(certs[0].Raw)
}

type certificateIn struct {
	ID string `path:"certificateId" check:"len=64..64,pattern=hex"`
}

type describeCertificateOut struct {
	Description certificateDescription `json:"certificateDescription"`
}

type certificateDescription struct {
	ARN          string                  `json:"certificateArn"`
	ID           string                  `json:"certificateId"`
	CAID         string                  `json:"caCertificateId,omitempty"`
	Status       cloud.CertificateStatus `json:"status"`
	PEM          string                  `json:"certificatePem"`
	OwnedBy      string                  `json:"ownedBy"`
	CreatedAt    rest.Time               `json:"creationDate"`
	ModifiedAt   rest.Time               `json:"lastModifiedDate"`
	Version      int                     `json:"customerVersion"`
	TransferData rest.Empty              `json:"transferData"`
	Generation   string                  `json:"generationId"`
	Validity     validity                `json:"validity"`
	Mode         iot.CertificateMode     `json:"certificateMode"`
}

type validity struct {
	From  rest.Time `json:"notBefore"`
	Until rest.Time `json:"notAfter"`
}

func (a *api) describeCertificate(ctx context.Context, in *certificateIn) (*describeCertificateOut, error) {
	r, err := a.cfg.Registry.Certificate(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	c := r.Value
	return &describeCertificateOut{certificateDescription{
		ARN: a.cfg.Realm.Certificate(c.ID), ID: c.ID, CAID: c.CAID, Status: c.Status, PEM: c.PEM, OwnedBy: a.cfg.Realm.Account,
		CreatedAt: rest.At(c.CreatedAt), ModifiedAt: rest.At(c.Modified()), Version: c.Number(), Generation: generation(c.CreatedAt),
		Validity: validity{rest.At(c.NotBefore), rest.At(c.NotAfter)}, Mode: c.ModeOf(),
	}}, nil
}

type listCertificatesIn struct {
	PageSize  *int32 `query:"pageSize" check:"range=1..250"`
	Marker    string `query:"marker"`
	Ascending bool   `query:"isAscendingOrder"`
}

type listCertificatesByCAIn struct {
	CA        string `path:"caCertificateId" check:"len=64..64,pattern=hex"`
	PageSize  *int32 `query:"pageSize" check:"range=1..250"`
	Marker    string `query:"marker"`
	Ascending bool   `query:"isAscendingOrder"`
}

type listCertificatesOut struct {
	Certificates []certificateSummary `json:"certificates"`
	Next         string               `json:"nextMarker,omitempty"`
}

type certificateSummary struct {
	ARN       string                  `json:"certificateArn"`
	ID        string                  `json:"certificateId"`
	Status    cloud.CertificateStatus `json:"status"`
	Mode      iot.CertificateMode     `json:"certificateMode,omitempty"`
	CreatedAt rest.Time               `json:"creationDate"`
}

func (a *api) listCertificates(ctx context.Context, in *listCertificatesIn) (*listCertificatesOut, error) {
	return a.certificatesOf(ctx, "", in.PageSize, in.Marker, in.Ascending)
}

func (a *api) listCertificatesByCA(ctx context.Context, in *listCertificatesByCAIn) (*listCertificatesOut, error) {
	return a.certificatesOf(ctx, in.CA, in.PageSize, in.Marker, in.Ascending)
}

func (a *api) certificatesOf(ctx context.Context, ca string, size *int32, marker string, ascending bool) (*listCertificatesOut, error) {
	filters := []string{"certificates", ca}
	page, err := pageOf(size, marker, ascending, filters)
	if err != nil {
		return nil, err
	}
	list, next, err := a.cfg.Registry.ListCertificates(ctx, ca, page)
	if err != nil {
		return nil, err
	}
	out := &listCertificatesOut{Certificates: []certificateSummary{}, Next: nextMarker(next, ascending, filters)}
	for _, c := range list {
		out.Certificates = append(out.Certificates, certificateSummary{
			ARN: a.cfg.Realm.Certificate(c.ID), ID: c.ID, Status: c.Status, Mode: c.ModeOf(), CreatedAt: rest.At(c.CreatedAt),
		})
	}
	return out, nil
}

// pageOf is the page that a list is asked for; it has no more than markerPage
// entries if the size is not given.
func pageOf(size *int32, marker string, ascending bool, filters []string) (iot.Page, error) {
	after, err := rest.AfterMarker(marker, append(filters, strconv.FormatBool(ascending))...)
	return iot.Page{After: after, Limit: rest.Limit(size, markerPage), Ascending: ascending}, err
}

// markerPage is how many entries a list with markers shows unless asked for more.
const markerPage = 25

// nextMarker leads to the next page, "" if there is none.
func nextMarker(next string, ascending bool, filters []string) string {
	if next == "" {
		return ""
	}
	return rest.Token(next, append(filters, strconv.FormatBool(ascending))...)
}

type updateCertificateIn struct {
	ID     string `path:"certificateId" check:"len=64..64,pattern=hex"`
	Status string `query:"newStatus" check:"required,enum=ACTIVE|INACTIVE|REVOKED|PENDING_TRANSFER|REGISTER_INACTIVE|PENDING_ACTIVATION"`
}

func (a *api) updateCertificate(ctx context.Context, in *updateCertificateIn) (*rest.Empty, error) {
	return nil, refused(a.cfg.Registry.UpdateCertificate(ctx, in.ID, cloud.CertificateStatus(in.Status)))
}

type deleteCertificateIn struct {
	ID    string `path:"certificateId" check:"len=64..64,pattern=hex"`
	Force bool   `query:"forceDelete"`
}

func (a *api) deleteCertificate(ctx context.Context, in *deleteCertificateIn) (*rest.Empty, error) {
	return nil, refused(a.cfg.Registry.DeleteCertificate(ctx, in.ID, in.Force))
}
