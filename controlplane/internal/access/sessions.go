package access

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Session is one set of temporary credentials of a device. They prove which
// device calls, and carry no [Role]: no operation of ggfleet is for devices that
// do not come with their certificate.
type Session struct {
	AccessKey string      // 20 characters, "ASIA" first: never the id of a Key
	Secret    logx.Secret // 40 characters
	Token     string      // what clients send along, base64, below 1 KiB
	Thing     string
	RoleAlias string
	Expires   time.Time // whole seconds
}

// SessionsConfig is what Sessions needs.
type SessionsConfig struct {
	// Secret is shared by all replicas, 32 bytes at least: whoever has it can
	// make credentials.
	Secret []byte
	Now    func() time.Time // nil: time.Now
}

// Sessions hands out temporary credentials and reads them again. It stores
// nothing: the token says all, and the secret follows from it. Safe for
// concurrent use.
type Sessions struct {
	sign, derive []byte
	now          func() time.Time
}

const (
	sessionPrefix   = "ASIA"
	minSecret       = 32
	maxSessionToken = 1 << 10 // characters
)

// NewSessions checks cfg.
func NewSessions(cfg SessionsConfig) (*Sessions, error) {
	if len(cfg.Secret) < minSecret {
		return nil, fmt.Errorf("sessions: Secret has %d bytes; it needs %d", len(cfg.Secret), minSecret)
	}
	s := &Sessions{now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	for use, key := range map[string]*[]byte{"session token": &s.sign, "session secret": &s.derive} {
		k, err := hkdf.Key(sha256.New, cfg.Secret, nil, use, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("sessions: %w", err)
		}
		*key = k
	}
	return s, nil
}

// sessionClaims is what a token says, as JSON after its signature.
type sessionClaims struct {
	AccessKey string `json:"k"`
	Thing     string `json:"t"`
	RoleAlias string `json:"a"`
	Expires   int64  `json:"e"` // Unix seconds
}

// Issue makes credentials for the device thing that end after d, which is cut
// to whole seconds.
func (s *Sessions) Issue(_ context.Context, thing, roleAlias string, d time.Duration) (Session, error) {
	c := sessionClaims{
		AccessKey: sessionPrefix + rand.Text()[:idLength-len(sessionPrefix)],
		Thing:     thing, RoleAlias: roleAlias, Expires: s.now().Add(d).Unix(),
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return Session{}, fmt.Errorf("make session token: %w", err)
	}
	token := base64.StdEncoding.EncodeToString(append(sumOf(s.sign, raw), raw...))
	if len(token) > maxSessionToken {
		return Session{}, fault.New(fault.Invalid, "the names of thing %.40q and role alias %.40q are too long for a session token", thing, roleAlias)
	}
	return s.session(c, token), nil
}

// Open returns the session that token and accessKey are of, expired or not;
// fault.NotFound if they were not made here or do not belong together.
func (s *Sessions) Open(_ context.Context, accessKey, token string) (Session, error) {
	unknown := fault.New(fault.NotFound, "the session token is not one of this server or not of this access key")
	if len(token) > maxSessionToken {
		return Session{}, unknown
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < sha256.Size || bytes.ContainsAny([]byte(token), "\r\n") {
		return Session{}, unknown
	}
	sum, raw := raw[:sha256.Size], raw[sha256.Size:]
	if !hmac.Equal(sum, sumOf(s.sign, raw)) {
		return Session{}, unknown
	}
	var c sessionClaims
	if err := json.Unmarshal(raw, &c); err != nil || c.AccessKey != accessKey {
		return Session{}, unknown
	}
	return s.session(c, token), nil
}

func (s *Sessions) session(c sessionClaims, token string) Session {
	secret := base64.StdEncoding.EncodeToString(sumOf(s.derive, []byte(token)))[:secretLength]
	return Session{
		AccessKey: c.AccessKey, Secret: logx.NewSecret(secret), Token: token,
		Thing: c.Thing, RoleAlias: c.RoleAlias, Expires: time.Unix(c.Expires, 0).UTC(),
	}
}

func sumOf(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}
