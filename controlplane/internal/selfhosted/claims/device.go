package claims

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	// TokenLife is how long a certificate waits to be provisioned; then both are gone.
	TokenLife = time.Hour
	// maxOpen is how many certificates one claim may have waiting.
	maxOpen = 1000
	// maxRequest bounds a request's payload, in bytes: a CSR, or a template's
	// parameters.
	maxRequest = 64 << 10
)

// Answer is what a device gets on a topic.
type Answer struct {
	Topic   string
	Payload []byte
}

// refusal is the payload of a rejection (nucleus-contract §2.6).
type refusal struct {
	Status int    `json:"statusCode"`
	Code   string `json:"errorCode"`
	Text   string `json:"errorMessage"`
}

func (r *refusal) Error() string { return r.Text }

func refuse(status int, code, format string, args ...any) error {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// Serve answers a request of a device that is connected with the claim. What was
// made is committed when it returns. fault.NotFound: no request has this topic.
// Other errors mean that the device should ask again.
func (s *Service) Serve(ctx context.Context, claim, topic string, payload []byte) (Answer, error) {
	call, err := s.call(topic)
	if err != nil {
		return Answer{}, err
	}
	var out any
	if len(payload) > maxRequest {
		err = refuse(400, "InvalidRequest", "the payload has %d bytes, more than %d", len(payload), maxRequest)
	} else if h, refused := s.holder(ctx, claim); refused != nil {
		err = refused
	} else {
		out, err = call(ctx, h, payload)
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		s.log.InfoContext(ctx, "claim refused", logx.Certificate, claim, logx.Topic, topic, "code", r.Code, "reason", r.Text)
		topic, out = protocol.Rejected(topic), r
	} else if err != nil {
		return Answer{}, err
	} else {
		topic = protocol.Accepted(topic)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return Answer{}, fmt.Errorf("encode answer on %s: %w", topic, err)
	}
	return Answer{topic, b}, nil
}

type handler func(ctx context.Context, h holder, payload []byte) (any, error)

// holder is whoever has a claim.
type holder struct {
	claim    string
	template string // the only one to provision with; "" for any
}

// holder refuses a claim that is none any more: the session may be older than that.
func (s *Service) holder(ctx context.Context, claim string) (holder, error) {
	own, err := s.claimOf(ctx, claim)
	switch {
	case err != nil:
		return holder{}, err
	case s.lives(own):
		return holder{claim, own.Value.Template}, nil
	case own.Rev == 0:
		c, err := s.registry.Certificate(ctx, claim)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return holder{}, fmt.Errorf("read claim %s: %w", claim, err)
		}
		if c.Value.Status == cloud.Active && len(c.Value.Things) == 0 {
			return holder{claim: claim}, nil
		}
	}
	return holder{}, refuse(403, "AccessDenied", "this certificate is no claim any more: it ran out, is not ACTIVE, or belongs to a thing")
}

func (s *Service) call(topic string) (handler, error) {
	switch topic {
	case "$aws/certificates/create/json":
		return s.createKeys, nil
	case "$aws/certificates/create-from-csr/json":
		return s.signCSR, nil
	}
	name, ok := strings.CutPrefix(topic, "$aws/provisioning-templates/")
	if name, ok2 := strings.CutSuffix(name, "/provision/json"); ok && ok2 && name != "" && !strings.Contains(name, "/") {
		return func(ctx context.Context, h holder, payload []byte) (any, error) {
			return s.provision(ctx, h, name, payload)
		}, nil
	}
	return nil, fault.New(fault.NotFound, "no request of fleet provisioning has topic %s", topic)
}

// read decodes a request; an empty payload is an empty object.
func read(payload []byte, into any) error {
	if len(payload) == 0 {
		return nil
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return refuse(400, "InvalidPayload", "the payload is not the JSON object expected: %s", err)
	}
	return nil
}

// certificate is the answer to both requests for one.
type certificate struct {
	ID    string `json:"certificateId"`
	PEM   string `json:"certificatePem"`
	Key   string `json:"privateKey,omitempty"`
	Token string `json:"certificateOwnershipToken"`
}

func (s *Service) createKeys(ctx context.Context, h holder, payload []byte) (any, error) {
	if err := read(payload, &struct{}{}); err != nil {
		return nil, err
	}
	if err := s.room(ctx, h.claim); err != nil {
		return nil, err
	}
	issued, keys, err := s.registry.IssueKeys(s.registry.Longest())
	if err != nil {
		return nil, err
	}
	token, err := s.entrust(ctx, h.claim, issued)
	return certificate{issued.ID, issued.PEM, keys.Private, token}, err
}

func (s *Service) signCSR(ctx context.Context, h holder, payload []byte) (any, error) {
	var in struct {
		CSR string `json:"certificateSigningRequest"`
	}
	if err := read(payload, &in); err != nil {
		return nil, err
	}
	if err := s.room(ctx, h.claim); err != nil {
		return nil, err
	}
	issued, err := s.registry.IssueCSR(in.CSR)
	if fault.Permanent(err) {
		return nil, refuse(400, "InvalidCertificateSigningRequest", "%s", fault.Message(err))
	}
	if err != nil {
		return nil, err
	}
	token, err := s.entrust(ctx, h.claim, issued)
	return certificate{issued.ID, issued.PEM, "", token}, err
}

// ownership is a certificate that waits to be provisioned by whoever has the
// token. The claim that asked for it must bring it back.
type ownership struct {
	Certificate string    `json:"certificate"`
	Until       time.Time `json:"until"`
}

const tokenPrefix = prefix + "token/"

func tokensOf(claim string) string { return tokenPrefix + claim + "/" }

// tokenKey has the token's hash, so that the store does not give tokens away.
func tokenKey(claim, token string) string {
	sum := sha256.Sum256([]byte(token))
	return tokensOf(claim) + hex.EncodeToString(sum[:])
}

// room refuses a claim that asks for certificates and does not use them.
func (s *Service) room(ctx context.Context, claim string) error {
	p, err := s.store.List(ctx, tokensOf(claim), "", maxOpen)
	if err != nil {
		return fmt.Errorf("list tokens of claim %s: %w", claim, err)
	}
	if len(p.Entries) >= maxOpen {
		return refuse(429, "Throttled", "%d certificates of this claim wait to be provisioned; each is forgotten after %s", maxOpen, TokenLife)
	}
	return nil
}

// entrust registers a certificate that waits, and returns its token. The token
// comes first: what it names and was never registered, or never taken up, Sweep
// removes.
func (s *Service) entrust(ctx context.Context, claim string, c cloud.Issued) (string, error) {
	token := rand.Text() + rand.Text()
	key := tokenKey(claim, token)
	b := state.NewBatch(state.StepRegistry).If(key, 0).Put(key, ownership{c.ID, s.now().Add(TokenLife).UTC()})
	if _, err := s.store.Commit(ctx, b); err != nil {
		return "", fmt.Errorf("store ownership of certificate %s: %w", c.ID, err)
	}
	_, err := s.registry.AddCertificate(ctx, c, iot.PendingActivation)
	return token, err
}
