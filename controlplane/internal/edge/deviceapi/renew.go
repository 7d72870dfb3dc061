package deviceapi

import (
	"context"
	"crypto/x509"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Renewals renews certificates of agents and of their cores and client devices.
type Renewals interface {
	Renew(ctx context.Context, subject protocol.Subject, leaf *x509.Certificate, csr string) (protocol.CSRResponse, error)
	ConfirmRenewal(ctx context.Context, subject protocol.Subject, certificate string) error
	RenewNonce() protocol.RenewNonce
	RenewExpired(ctx context.Context, r protocol.ExpiredRequest) (protocol.CSRResponse, error)
	RenewDevice(ctx context.Context, subject protocol.Subject, r protocol.DeviceRenewal) (protocol.CSRResponse, error)
	ConfirmDevice(ctx context.Context, subject protocol.Subject, certificate string) error
}

// renewRoutes adds what needs the agent's certificate to device, and what does
// without to open.
func (a *API) renewRoutes(device, open *http.ServeMux) {
	device.Handle("POST "+protocol.PathCertificate, a.agents(a.renew))
	device.Handle("POST "+protocol.PathCertificateConfirm, a.greengrass(a.confirmRenewal))
	device.Handle("POST "+protocol.PathDeviceRenewal, a.agents(a.renewDevice))
	device.Handle("POST "+protocol.PathDeviceRenewalConfirm, a.agents(a.confirmDevice))
	open.Handle("GET "+protocol.PathCertificateExpired, a.paced(a.renewNonce))
	open.Handle("POST "+protocol.PathCertificateExpired, gate(a, a.renewExpired))
}

func (a *API) renew(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	var in protocol.CSRRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	out, err := a.cfg.Renewals.Renew(r.Context(), s, presented(r), in.CSR)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) confirmRenewal(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	s, is := protocol.AgentSubject(id.Thing, id.Attributes)
	if !is {
		return fault.New(fault.Denied, "the client certificate is not an agent's")
	}
	if err := a.cfg.Renewals.ConfirmRenewal(r.Context(), s, id.CertificateID); err != nil {
		return err
	}
	return answer(w, struct{}{})
}

// renewNonce is also how a device without any usable certificate learns the time.
func (a *API) renewNonce(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, a.cfg.Renewals.RenewNonce())
}

func (a *API) renewExpired(w http.ResponseWriter, r *http.Request, in protocol.ExpiredRequest) error {
	out, err := a.cfg.Renewals.RenewExpired(r.Context(), in)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) renewDevice(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	var in protocol.DeviceRenewal
	if err := decode(r, &in); err != nil {
		return err
	}
	out, err := a.cfg.Renewals.RenewDevice(r.Context(), s, in)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) confirmDevice(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	var in protocol.RenewConfirm
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := a.cfg.Renewals.ConfirmDevice(r.Context(), s, in.CertificateID); err != nil {
		return err
	}
	return answer(w, struct{}{})
}
