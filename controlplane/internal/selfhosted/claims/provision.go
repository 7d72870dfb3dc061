package claims

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

type provisionRequest struct {
	Token      string            `json:"certificateOwnershipToken"`
	Parameters map[string]string `json:"parameters"`
}

type provisioned struct {
	Configuration map[string]any `json:"deviceConfiguration"`
	Thing         string         `json:"thingName"`
}

// done is the answer to a request that was carried out: the device may not have
// heard it, and asks again.
type done struct {
	Request string      `json:"request"` // hash of template and parameters
	Answer  provisioned `json:"answer"`
	// Certificate waits for ever if the template has none: then it goes with this.
	Certificate string    `json:"certificate"`
	Until       time.Time `json:"until"`
}

const donePrefix = prefix + "done/"

func doneKey(claim, token string) string {
	return donePrefix + strings.TrimPrefix(tokenKey(claim, token), tokenPrefix)
}

// hash tells requests apart that name the same token.
func (r provisionRequest) hash(template string) string {
	b, _ := json.Marshal([]any{template, r.Parameters}) //nolint:errchkjson // texts always encode
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// provision makes the thing of a certificate that waits, by the template's default
// version, and lets the certificate connect.
func (s *Service) provision(ctx context.Context, h holder, template string, payload []byte) (any, error) {
	var in provisionRequest
	if err := read(payload, &in); err != nil {
		return nil, err
	}
	before, err := state.ReadOr[done](ctx, s.store, doneKey(h.claim, in.Token))
	if err != nil {
		return nil, fmt.Errorf("read answer of claim %s: %w", h.claim, err)
	}
	if before.Rev != 0 && before.Value.Request == in.hash(template) {
		return before.Value.Answer, nil
	}
	body, err := s.open(ctx, h, template)
	if err != nil {
		return nil, err
	}
	owned, err := s.owned(ctx, h.claim, in.Token)
	if err != nil {
		return nil, err
	}
	answer, err := s.carryOut(ctx, body, in.Parameters, owned.Value.Certificate)
	if err != nil {
		return nil, err
	}
	b := state.NewBatch(state.StepRegistry).If(tokenKey(h.claim, in.Token), owned.Rev).Delete(tokenKey(h.claim, in.Token))
	b.Put(doneKey(h.claim, in.Token), done{in.hash(template), answer, owned.Value.Certificate, owned.Value.Until})
	if _, err := s.store.Commit(ctx, b); err != nil {
		return nil, fmt.Errorf("store answer of claim %s: %w", h.claim, err)
	}
	s.log.InfoContext(ctx, "device provisioned by claim", logx.Thing, answer.Thing, logx.Certificate, owned.Value.Certificate, "claim", h.claim, "template", template)
	return answer, nil
}

// owned returns what the claim's token stands for. A certificate that somebody took
// out of use meanwhile stays so.
func (s *Service) owned(ctx context.Context, claim, token string) (state.Record[ownership], error) {
	owned, err := state.ReadOr[ownership](ctx, s.store, tokenKey(claim, token))
	if err != nil {
		return owned, fmt.Errorf("read ownership of claim %s: %w", claim, err)
	}
	if owned.Rev == 0 || s.now().After(owned.Value.Until) {
		return owned, refuse(403, "InvalidCertificateOwnershipToken", "the certificateOwnershipToken is not known, was used, or is older than %s", TokenLife)
	}
	c, err := s.registry.Certificate(ctx, owned.Value.Certificate)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return owned, fmt.Errorf("read certificate %s: %w", owned.Value.Certificate, err)
	}
	if st := c.Value.Status; st != iot.PendingActivation && st != cloud.Active { // ACTIVE: the answer was not stored
		return owned, refuse(403, "InvalidCertificateOwnershipToken", "the certificate that the token is of was deleted or taken out of use")
	}
	return owned, nil
}

// open returns the template's body if the claim may use it.
func (s *Service) open(ctx context.Context, h holder, template string) (string, error) {
	if h.template != "" && h.template != template {
		return "", refuse(403, "AccessDenied", "this claim is for provisioning template %s", h.template)
	}
	t, body, err := s.Template(ctx, template)
	switch {
	case errors.Is(err, fault.NotFound):
		return "", refuse(404, "ResourceNotFound", "%s", fault.Message(err))
	case err != nil:
		return "", err
	case t.Kind != Fleet || !t.Enabled:
		return "", refuse(403, "AccessDenied", "provisioning template %s is not enabled for fleet provisioning", template)
	}
	return body, nil
}

// carryOut registers the thing with the certificate.
func (s *Service) carryOut(ctx context.Context, body string, parameters map[string]string, certificate string) (provisioned, error) {
	given := maps.Clone(parameters)
	if given == nil {
		given = map[string]string{}
	}
	given[certificateID] = certificate // whatever the device says
	d, err := parse(body)
	if err != nil {
		return provisioned{}, invalid(err)
	}
	p, err := d.fill(given)
	if err != nil {
		return provisioned{}, invalid(err)
	}
	out, err := s.registrar.RegisterThing(ctx, p.body, p.parameters)
	if err != nil {
		return provisioned{}, invalid(err)
	}
	return provisioned{p.configuration, out.Thing}, nil
}

// invalid words what the device can do nothing about but ask otherwise.
func invalid(err error) error {
	if fault.Permanent(err) {
		return refuse(400, "InvalidRequest", "%s", fault.Message(err))
	}
	return err
}
