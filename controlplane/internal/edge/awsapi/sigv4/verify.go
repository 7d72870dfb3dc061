package sigv4

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Codes of the errors of this package; the answer to each is HTTP 403
// (greengrassv2-api §1.5).
const (
	CodeMissing      = "MissingAuthenticationTokenException"
	CodeIncomplete   = "IncompleteSignatureException"
	CodeInvalid      = "InvalidSignatureException"
	CodeUnrecognized = "UnrecognizedClientException"
	CodeExpired      = "ExpiredTokenException"
	CodeDenied       = "AccessDeniedException"
)

// Error is why a request is refused, in AWS' words for clients that read them.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Credential is what belongs to an access key.
type Credential struct {
	Secret logx.Secret
	// Role is empty if the key proves who calls and permits nothing.
	Role access.Role
	// Device is the thing that temporary credentials were handed to.
	Device string
	// Expires is zero for keys that do not.
	Expires time.Time
}

// Secrets finds the credential of an access key. The session token is empty
// unless the caller has temporary credentials.
type Secrets interface {
	// Secret returns fault.NotFound for a key that is not known or was revoked,
	// or whose token does not belong to it. Expired ones it may return.
	Secret(ctx context.Context, accessKey, sessionToken string) (Credential, error)
}

// Caller is who signed a request.
type Caller struct {
	AccessKey string
	Role      access.Role // may be empty: see Allowed
	Device    string      // the thing whose temporary credentials these are
	Region    string      // as signed: any is accepted
	Service   string      // as signed
}

// Allowed returns nil if the caller may do what needs the role need, and an
// *Error with CodeDenied otherwise.
func (c Caller) Allowed(need access.Role) error {
	switch {
	case c.Role.Includes(need):
		return nil
	case c.Device != "":
		return &Error{CodeDenied, "The temporary credentials of thing " + c.Device + " are not authorised to call this API; use an access key of this server."}
	default:
		return &Error{CodeDenied, fmt.Sprintf("The access key %s has the role %s; this operation needs %s.", c.AccessKey, c.Role, need)}
	}
}

// DefaultSkew is how far the clock of a client may be off, as at AWS.
const DefaultSkew = 5 * time.Minute

// Config is what a Verifier needs.
type Config struct {
	Secrets Secrets
	Skew    time.Duration    // 0: DefaultSkew
	Now     func() time.Time // nil: time.Now
}

// Verifier verifies signatures. Safe for concurrent use.
type Verifier struct{ cfg Config }

// New checks cfg.
func New(cfg Config) (*Verifier, error) {
	if cfg.Secrets == nil {
		return nil, errors.New("sigv4: Secrets is required")
	}
	if cfg.Skew < 0 {
		return nil, fmt.Errorf("sigv4: Skew is %s; it must not be negative", cfg.Skew)
	}
	if cfg.Skew == 0 {
		cfg.Skew = DefaultSkew
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg}, nil
}

// Verify returns who signed r. body returns the SHA-256 of its body in lower case
// hex; it is called only for an access key that is known, so that nobody else can
// make the server keep a body. Path and query must be as they were received. An
// error is an *Error when the caller is to blame, and else of Secrets or body.
func (v *Verifier) Verify(ctx context.Context, r *http.Request, body func() (string, error)) (Caller, error) {
	s, err := parse(r)
	switch {
	case errors.Is(err, ErrAnonymous):
		return Caller{}, &Error{CodeMissing, "The request is not signed: it has no authentication token."}
	case err != nil:
		return Caller{}, &Error{CodeIncomplete, "The signature cannot be read: " + err.Error() + "."}
	}
	if err := v.checkTime(s); err != nil {
		return Caller{}, err
	}
	if err := checkSigned(r, s); err != nil {
		return Caller{}, err
	}
	c, err := v.cfg.Secrets.Secret(ctx, s.AccessKey, s.token)
	if errors.Is(err, fault.NotFound) {
		return Caller{}, &Error{CodeUnrecognized, "The security token included in the request is invalid: the access key is not known here."}
	}
	if err != nil {
		return Caller{}, fmt.Errorf("finding the secret of access key %s: %w", s.AccessKey, err)
	}
	sum, err := body()
	if err != nil {
		return Caller{}, err
	}
	if err := checkBody(r, sum); err != nil {
		return Caller{}, err
	}
	if !matches(r, s, c.Secret.Reveal(), sum) {
		return Caller{}, &Error{CodeInvalid, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."}
	}
	if !c.Expires.IsZero() && !v.cfg.Now().Before(c.Expires) {
		return Caller{}, &Error{CodeExpired, "The security token included in the request is expired"}
	}
	return Caller{AccessKey: s.AccessKey, Role: c.Role, Device: c.Device, Region: s.Region, Service: s.Service}, nil
}

// checkTime refuses in the words by which clients correct their clocks. Those
// that do not read the words read the Date header of the answer.
func (v *Verifier) checkTime(s signature) error {
	if s.Date != s.date[:len(s.Date)] {
		return &Error{CodeInvalid, fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", s.Date, s.date[:len(s.Date)], s.date)}
	}
	now := v.cfg.Now().UTC()
	minutes := fmt.Sprintf("%d min.", int(v.cfg.Skew/time.Minute))
	if latest := now.Add(v.cfg.Skew); s.at.After(latest) {
		return &Error{CodeInvalid, fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + %s)",
			s.date, latest.Format(timeForm), now.Format(timeForm), minutes)}
	}
	if s.Presigned {
		if end := s.at.Add(s.expires); end.Before(now) {
			return &Error{CodeInvalid, fmt.Sprintf("Signature expired: %s is now earlier than %s", end.Format(timeForm), now.Format(timeForm))}
		}
		return nil
	}
	if earliest := now.Add(-v.cfg.Skew); s.at.Before(earliest) {
		return &Error{CodeInvalid, fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - %s)",
			s.date, earliest.Format(timeForm), now.Format(timeForm), minutes)}
	}
	return nil
}

// checkSigned sees to it that all that decides about a request is signed: its
// host, its time and every header of AWS' own, but those that proxies add.
func checkSigned(r *http.Request, s signature) error {
	need := []string{"host"}
	if !s.Presigned && r.Header.Get("X-Amz-Date") == "" {
		need = append(need, "date")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		own := strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "x-amzn-")
		if own && name != "x-amzn-trace-id" && name != "x-amz-cf-id" {
			need = append(need, name)
		}
	}
	for _, name := range need {
		if !slices.Contains(s.signed, name) {
			return &Error{CodeInvalid, fmt.Sprintf("'%.60s' must be a 'SignedHeader' in the AWS Authorization.", name)}
		}
	}
	return nil
}

// checkBody compares what the client says of its body. Unsigned bodies are for
// S3 only.
func checkBody(r *http.Request, sum string) error {
	for _, said := range r.Header.Values("X-Amz-Content-Sha256") {
		if !hmac.Equal([]byte(said), []byte(sum)) {
			return &Error{CodeInvalid, fmt.Sprintf("The x-amz-content-sha256 header is '%.80s'; it must be the SHA-256 of the body.", said)}
		}
	}
	return nil
}

// matches reports whether the signature is that of one of the forms that
// clients sign.
func matches(r *http.Request, s signature, secret, bodySum string) bool {
	key := signingKey(secret, s.Scope)
	head := Algorithm + "\n" + s.date + "\n" + strings.Join([]string{s.Date, s.Region, s.Service, terminator}, "/") + "\n"
	tail := canonicalHeaders(r, s.signed) + "\n" + strings.Join(s.signed, ";") + "\n" + bodySum
	queries := canonicalQueries(r.URL.RawQuery, s.Presigned)
	ok := false
	for _, path := range canonicalPaths(r.URL.EscapedPath()) {
		for _, query := range queries {
			request := r.Method + "\n" + path + "\n" + query + "\n" + tail
			ok = hmac.Equal(mac(key, head+hexSHA256(request)), s.sum) || ok
		}
	}
	return ok
}
