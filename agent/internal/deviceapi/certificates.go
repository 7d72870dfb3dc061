package deviceapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// dated tells the time that each answer was given at.
type dated struct {
	*http.Transport
	onDate func(time.Time)
}

// RoundTrip implements http.RoundTripper.
func (d *dated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.Transport.RoundTrip(r)
	if err == nil && d.onDate != nil {
		if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			d.onDate(at)
		}
	}
	return resp, err
}

// Enroll asks to be let in. Of the two answers one is nil: who the agent is, or
// that it has to wait for somebody's approval.
func (c *Client) Enroll(ctx context.Context, r protocol.EnrollRequest) (*protocol.EnrollResponse, *protocol.EnrollPending, error) {
	var out struct {
		protocol.EnrollResponse
		protocol.EnrollPending
	}
	if err := c.callJSON(ctx, http.MethodPost, protocol.PathEnroll, r, &out); err != nil {
		return nil, nil, err
	}
	if out.CertificatePEM == "" {
		return nil, &out.EnrollPending, nil
	}
	return &out.EnrollResponse, nil, nil
}

// Renew has the CSR of the agent's next key signed.
func (c *Client) Renew(ctx context.Context, csr string) (string, error) {
	return c.sign(ctx, protocol.PathCertificate, protocol.CSRRequest{CSR: csr})
}

// ConfirmRenewal says that the certificate of this client works.
func (c *Client) ConfirmRenewal(ctx context.Context) error {
	var out struct{}
	return c.callJSON(ctx, http.MethodPost, protocol.PathCertificateConfirm, struct{}{}, &out)
}

// Nonce begins a renewal of an expired certificate; it tells the control plane's
// time as well.
func (c *Client) Nonce(ctx context.Context) (protocol.RenewNonce, error) {
	var out protocol.RenewNonce
	return out, c.callJSON(ctx, http.MethodGet, protocol.PathCertificateExpired, nil, &out)
}

// RenewExpired asks for a certificate in place of an expired one.
func (c *Client) RenewExpired(ctx context.Context, r protocol.ExpiredRequest) (string, error) {
	return c.sign(ctx, protocol.PathCertificateExpired, r)
}

// RenewDevice has the CSR of the next key of core or client device signed.
func (c *Client) RenewDevice(ctx context.Context, r protocol.DeviceRenewal) (string, error) {
	return c.sign(ctx, protocol.PathDeviceRenewal, r)
}

// ConfirmDevice says that core or client device work with the certificate.
func (c *Client) ConfirmDevice(ctx context.Context, id string) error {
	var out struct{}
	return c.callJSON(ctx, http.MethodPost, protocol.PathDeviceRenewalConfirm, protocol.RenewConfirm{CertificateID: id}, &out)
}

func (c *Client) sign(ctx context.Context, path string, in any) (string, error) {
	var out protocol.CSRResponse
	err := c.callJSON(ctx, http.MethodPost, path, in, &out)
	return out.CertificatePEM, err
}

// Admitted reports whether the control plane takes the certificate of this
// client: nil when it answers as it does to devices.
func (c *Client) Admitted(ctx context.Context) error {
	resp, err := c.get(ctx, "/greengrass/v2/admitted", 0)
	if err == nil {
		return resp.Body.Close()
	}
	if errors.Is(err, fault.NotFound) {
		return nil // there is no such operation: it was let in that far
	}
	return err
}

// Refused reports whether err says that the control plane does not take the
// client certificate: expired, revoked or unknown. TLS tells it by an alert that
// is known by its text alone.
func Refused(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return strings.Contains(op.Err.Error(), "certificate")
	}
	return errors.Is(err, fault.Denied) && strings.Contains(fault.Message(err), "client certificate")
}
