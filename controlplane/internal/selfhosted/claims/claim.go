package claims

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// ClaimLife is how long a claim of CreateClaim can be traded.
const ClaimLife = 5 * time.Minute

// commonName is the subject of the certificates that AWS IoT makes keys for.
const commonName = "AWS IoT Certificate"

// Claim is a certificate that can only be traded for one of the device's own. It
// is not in the registry and belongs to no thing.
type Claim struct {
	cloud.Issued
	PrivateKey string // PEM (PKCS#8); it is not kept
	PublicKey  string // PEM
	Until      time.Time
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
	key, err := pki.NewKey(pki.RSA2048)
	if err != nil {
		return Claim{}, err
	}
	keyPEM, err := pki.MarshalKey(key)
	if err != nil {
		return Claim{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Claim{}, fmt.Errorf("encode public key: %w", err)
	}
	issued, err := s.registry.Issue("", pkix.Name{CommonName: commonName}, key.Public(), ClaimLife)
	if err != nil {
		return Claim{}, fmt.Errorf("sign claim certificate: %w", err)
	}
	c := Claim{
		Issued: issued, PrivateKey: string(keyPEM), Until: issued.NotAfter,
		PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
	b := state.NewBatch(state.StepRegistry)
	if err := s.pruneBatch(ctx, b); err != nil {
		return Claim{}, err
	}
	b.If(claimKey(c.ID), 0).Put(claimKey(c.ID), claimRecord{Template: template, Until: c.Until})
	if _, err := s.store.Commit(ctx, b); err != nil {
		return Claim{}, fmt.Errorf("store claim for provisioning template %s: %w", template, err)
	}
	return c, nil
}

// pruned is how many claims one new claim looks at: more than come in their life
// of five minutes, in the long run.
const pruned = 50

// pruneBatch removes claims that are over.
func (s *Service) pruneBatch(ctx context.Context, b *state.Batch) error {
	p, err := s.store.List(ctx, claimPrefix, "", pruned)
	if err != nil {
		return fmt.Errorf("list claims: %w", err)
	}
	for _, e := range p.Entries {
		c, err := state.Decode[claimRecord](e)
		if err != nil {
			return err
		}
		if s.now().After(c.Value.Until) {
			b.Delete(e.Key)
		}
	}
	return nil
}
