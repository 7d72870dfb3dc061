package claims

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// ClaimLife is how long a claim of CreateClaim can be traded.
const ClaimLife = 5 * time.Minute

// Claim is a certificate that can only be traded for one of the device's own. It
// is not in the registry and belongs to no thing.
type Claim struct {
	cloud.Issued
	Keys  iot.KeyPair // the private key is not kept
	Until time.Time
}

type claimRecord struct {
	Template string    `json:"template"` // the one that it provisions with
	Until    time.Time `json:"until"`
}

const claimPrefix = prefix + "claim/"

func claimKey(certificate string) string { return claimPrefix + certificate }

// CreateClaim makes a claim for one template, or returns fault.NotFound.
func (s *Service) CreateClaim(ctx context.Context, template string) (Claim, error) {
	if _, _, err := s.Template(ctx, template); err != nil {
		return Claim{}, err
	}
	issued, keys, err := s.registry.IssueKeys(ClaimLife)
	if err != nil {
		return Claim{}, fmt.Errorf("make claim certificate: %w", err)
	}
	b := state.NewBatch(state.StepRegistry).If(claimKey(issued.ID), 0)
	b.Put(claimKey(issued.ID), claimRecord{Template: template, Until: issued.NotAfter})
	if _, err := s.store.Commit(ctx, b); err != nil {
		return Claim{}, fmt.Errorf("store claim for provisioning template %s: %w", template, err)
	}
	return Claim{Issued: issued, Keys: keys, Until: issued.NotAfter}, nil
}

// claimOf returns the record of a claim of CreateClaim, which has no revision for
// any other certificate.
func (s *Service) claimOf(ctx context.Context, certificate string) (state.Record[claimRecord], error) {
	c, err := state.ReadOr[claimRecord](ctx, s.store, claimKey(certificate))
	if err != nil {
		return c, fmt.Errorf("read claim %s: %w", certificate, err)
	}
	return c, nil
}

// lives reports whether there is a claim of CreateClaim and it is not over.
func (s *Service) lives(c state.Record[claimRecord]) bool {
	return c.Rev != 0 && !s.now().After(c.Value.Until)
}

// Identify tells what a client certificate that belongs to no thing may do: it is
// a claim of CreateClaim, or a certificate of the registry that is attached to
// nothing, and either may at most do what Boundary says. Others are fault.Denied.
func (s *Service) Identify(ctx context.Context, leaf *x509.Certificate) (iot.Identity, error) {
	id := pki.ID(leaf.Raw)
	c, err := s.claimOf(ctx, id)
	switch ok := s.lives(c); {
	case err != nil:
		return iot.Identity{}, err
	case ok && s.now().Before(leaf.NotBefore):
		return iot.Identity{}, fault.New(fault.Denied, "claim %s is not valid at this time", id)
	case ok:
		return iot.Identity{CertificateID: id, Policies: []*policy.Document{s.boundary}}, nil
	}
	return s.registry.IdentifyUnattached(ctx, leaf)
}

// Boundary is the most that a claim may do, whatever its own policies say.
func (s *Service) Boundary() *policy.Document { return s.boundary }

// boundaryOf allows any client id, and the topics by which a claim is traded.
func boundaryOf(r names.Realm) (*policy.Document, error) {
	const certificates, templates = "$aws/certificates/create*", "$aws/provisioning-templates/*/provision/*"
	d, err := policy.Parse(fmt.Appendf(nil, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":%q},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":[%q,%q]},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":[%q,%q]}]}`,
		r.Client("*"), r.Topic(certificates), r.Topic(templates), r.TopicFilter(certificates), r.TopicFilter(templates)))
	if err != nil {
		return nil, fmt.Errorf("policy of claims: %w", err)
	}
	return d, nil
}

// expiring is what all records that end by themselves have.
type expiring struct {
	Until       time.Time `json:"until"`
	Certificate string    `json:"certificate"` // of tokens and answers: to be removed if nobody took it up
}

// Sweep removes what is over: claims, tokens with the certificates that nobody
// took up, answers.
func (s *Service) Sweep(ctx context.Context) error {
	var errs []error
	for _, kind := range []string{claimPrefix, tokenPrefix, donePrefix} {
		errs = append(errs, state.All(ctx, s.store, kind, func(key string, r state.Record[expiring]) error {
			if !s.now().After(r.Value.Until) {
				return nil
			}
			if c := r.Value.Certificate; c != "" {
				if err := s.registry.DropPending(ctx, c); err != nil {
					return err
				}
			}
			_, err := s.store.Commit(ctx, state.NewBatch(state.StepRegistry).Delete(key))
			return err
		}))
	}
	return errors.Join(errs...)
}
