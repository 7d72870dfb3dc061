package selfhosted

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Clients are whoever may connect by MQTT: devices, and claims, which belong to no
// thing.
type Clients struct {
	Identities

	Claims *claims.Service
}

// Identify implements gateway.Identities.
func (c Clients) Identify(ctx context.Context, leaf *x509.Certificate) (gateway.Identity, error) {
	id, refused := c.Identities.Identify(ctx, leaf)
	if !errors.Is(refused, fault.Denied) {
		return id, refused
	}
	claim, err := c.Claims.Identify(ctx, leaf)
	switch {
	case errors.Is(err, fault.Denied):
		return id, refused
	case err != nil:
		return id, err
	}
	return gateway.Identity{CertificateID: claim.CertificateID, Policies: claim.Policies, Boundary: c.Claims.Boundary()}, nil
}

// ServeClaims lets claims be traded for certificates. Call it before the gateway
// runs.
func (d *Devices) ServeClaims(s *claims.Service) { d.claims = s }

// serveClaim answers a session without thing. The answer comes without
// subscription: lite sends none (nucleus-contract §2.6).
func (d *Devices) serveClaim(ctx context.Context, s gateway.Session, topic string, payload []byte) ([]gateway.Message, error) {
	a, err := d.claims.Serve(ctx, s.Identity.CertificateID, topic, payload)
	if err != nil {
		return nil, err
	}
	return []gateway.Message{{Topic: a.Topic, Payload: a.Payload, Push: true}}, nil
}
