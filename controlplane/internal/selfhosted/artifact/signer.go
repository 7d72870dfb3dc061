package artifact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	// DefaultTTL is how long a URL is good for if the Config does not say.
	DefaultTTL = time.Hour

	pathPrefix   = "/a/"
	minSecret    = 32 // bytes
	maxFileName  = 64 // longer names are left out of the URL: they are for people
	maxPublicURL = 256

	tokenVersion = 1
	expiryLen    = 4 // seconds since 1970, good until 2106
	etagLen      = 16
	macLen       = 16
	headLen      = 1 + expiryLen + etagLen
)

// label keeps the MAC apart from other uses of the same secret.
const label = "ggfleet artifact download v1\x00"

// Config is what NewSigner needs.
type Config struct {
	PublicURL string           // scheme, host and port at which devices reach the handler
	Secret    []byte           // at least 32 random bytes, the same on every replica
	TTL       time.Duration    // of a URL; 0: DefaultTTL
	Now       func() time.Time // nil: time.Now
}

// Signer makes and checks download URLs. It is safe for concurrent use.
type Signer struct {
	base   string
	secret []byte
	ttl    time.Duration
	now    func() time.Time
}

// NewSigner checks cfg.
func NewSigner(cfg Config) (*Signer, error) {
	u, err := url.Parse(cfg.PublicURL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("artifact public URL %q: want http://HOST:PORT or https://HOST:PORT as devices reach it", cfg.PublicURL)
	case len(cfg.PublicURL) > maxPublicURL:
		return nil, fmt.Errorf("artifact public URL has %d characters, over the limit of %d", len(cfg.PublicURL), maxPublicURL)
	case len(cfg.Secret) < minSecret:
		return nil, fmt.Errorf("artifact secret has %d bytes, want at least %d", len(cfg.Secret), minSecret)
	case cfg.TTL < 0:
		return nil, fmt.Errorf("artifact TTL %v is negative", cfg.TTL)
	}
	s := &Signer{base: strings.TrimRight(cfg.PublicURL, "/"), secret: cfg.Secret, ttl: cfg.TTL, now: cfg.Now}
	if s.ttl == 0 {
		s.ttl = DefaultTTL
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// URL returns a URL for the object at key whose SHA-256 is digest (hex). file is
// shown at the end. For keys of up to about 120 bytes it has less than 300
// characters; for the longest key it stays below the 2000 that lite reads.
func (s *Signer) URL(key, digest, file string) (string, error) {
	if err := object.CheckKey(key); err != nil {
		return "", err
	}
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != sha256.Size {
		return "", fmt.Errorf("sign artifact URL of %s: digest %q is not the hex of a SHA-256", key, digest)
	}
	b := make([]byte, 0, headLen+len(key)+macLen)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(s.now().Add(s.ttl).Unix())) //nolint:gosec // fits until 2106
	b = append(b, sum[:etagLen]...)
	b = append(b, key...)
	b = append(b, s.mac(b)...)
	out := s.base + pathPrefix + base64.RawURLEncoding.EncodeToString(b)
	if name := url.PathEscape(file); name != "" && len(name) <= maxFileName {
		out += "/" + name
	}
	return out, nil
}

func (s *Signer) mac(b []byte) []byte {
	h := hmac.New(sha256.New, s.secret)
	h.Write([]byte(label))
	h.Write(b)
	return h.Sum(nil)[:macLen]
}

// grant is what a valid token allows.
type grant struct {
	key  string
	etag string // quoted, as in the header
}

// check reads the token of a URL. Anything but a token of ours that has not
// expired is fault.Denied.
func (s *Signer) check(token string) (grant, error) {
	forged := fault.New(fault.Denied, "this download link is not valid")
	if len(token) > base64.RawURLEncoding.EncodedLen(headLen+object.MaxKey+macLen) {
		return grant{}, forged
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= headLen+macLen {
		return grant{}, forged
	}
	body, mac := b[:len(b)-macLen], b[len(b)-macLen:]
	if !hmac.Equal(mac, s.mac(body)) || body[0] != tokenVersion {
		return grant{}, forged
	}
	if s.now().Unix() >= int64(binary.BigEndian.Uint32(body[1:])) {
		return grant{}, fault.New(fault.Denied, "this download link has expired")
	}
	return grant{
		key:  string(body[headLen:]),
		etag: `"` + hex.EncodeToString(body[1+expiryLen:headLen]) + `"`,
	}, nil
}
