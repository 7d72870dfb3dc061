package sigv4

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Scope is what a Signature Version 4 says about itself before it is verified:
// AccessKey/Date/Region/Service/aws4_request.
type Scope struct {
	AccessKey string
	Date      string // yyyymmdd
	Region    string
	Service   string
	Presigned bool // in the query, not in the Authorization header
}

// Why a request has no scope. Anything else that ParseScope returns says what
// is malformed, in words for the caller.
var (
	ErrAnonymous   = errors.New("the request is not signed")
	ErrOldSign     = errors.New("the request is signed with Signature Version 2")
	ErrSignedTwice = errors.New("the request has both an Authorization header and a signature in its query")
)

// Algorithm is the only way of signing that is verified.
const Algorithm = "AWS4-HMAC-SHA256"

const (
	terminator = "aws4_request"

	// maxScope bounds a credential in bytes; real ones have about 70.
	maxScope = 512
)

// ParseScope finds the credential scope of r in its Authorization header or its
// query.
func ParseScope(r *http.Request) (Scope, error) {
	query := r.URL.Query() // without what cannot be parsed; the signature decides
	header := r.Header.Values("Authorization")
	inQuery := query.Has("X-Amz-Credential") || query.Has("X-Amz-Algorithm")
	switch {
	case len(header) > 1 || len(header) == 1 && inQuery:
		return Scope{}, ErrSignedTwice
	case len(header) == 1:
		return parseHeader(header[0])
	case inQuery:
		return parseQuery(query)
	case query.Has("AWSAccessKeyId") && query.Has("Signature"):
		return Scope{}, ErrOldSign
	}
	return Scope{}, ErrAnonymous
}

func parseHeader(value string) (Scope, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	switch name {
	case Algorithm:
	case "AWS":
		return Scope{}, ErrOldSign
	default:
		return Scope{}, fmt.Errorf("the authorization method %.40q is not supported; sign with %s", name, Algorithm)
	}
	credential, found := "", 0
	for field := range strings.SplitSeq(rest, ",") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(field), "Credential="); ok {
			credential = v
			found++
		}
	}
	if found != 1 {
		return Scope{}, fmt.Errorf("the Authorization header has %d Credential fields; it needs one", found)
	}
	return parseCredential(credential)
}

func parseQuery(query url.Values) (Scope, error) {
	if a := query["X-Amz-Algorithm"]; len(a) != 1 || a[0] != Algorithm {
		return Scope{}, fmt.Errorf("X-Amz-Algorithm is not %s", Algorithm)
	}
	c := query["X-Amz-Credential"]
	if len(c) != 1 {
		return Scope{}, fmt.Errorf("the query has %d X-Amz-Credential parameters; it needs one", len(c))
	}
	s, err := parseCredential(c[0])
	s.Presigned = err == nil
	return s, err
}

func parseCredential(credential string) (Scope, error) {
	if len(credential) > maxScope {
		return Scope{}, fmt.Errorf("the credential has %d bytes, the limit is %d", len(credential), maxScope)
	}
	p := strings.Split(credential, "/")
	if len(p) != 5 || p[4] != terminator {
		return Scope{}, fmt.Errorf("the credential %.80q does not read KEY/DATE/REGION/SERVICE/%s", credential, terminator)
	}
	s := Scope{AccessKey: p[0], Date: p[1], Region: p[2], Service: p[3]}
	for _, f := range []struct {
		name, value string
		allowed     func(byte) bool
	}{
		{"access key", s.AccessKey, func(c byte) bool { return letter(c) || digit(c) || strings.IndexByte("_-.+=@", c) >= 0 }},
		{"date", s.Date, digit},
		{"region", s.Region, func(c byte) bool { return lower(c) || digit(c) || c == '-' || c == '_' }},
		{"service", s.Service, func(c byte) bool { return lower(c) || digit(c) || c == '-' }},
	} {
		if f.value == "" || !only(f.value, f.allowed) {
			return Scope{}, fmt.Errorf("the credential's %s %.80q is malformed", f.name, f.value)
		}
	}
	if len(s.Date) != len("20060102") {
		return Scope{}, fmt.Errorf("the credential's date %.80q is not yyyymmdd", s.Date)
	}
	return s, nil
}

func only(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func lower(c byte) bool  { return c >= 'a' && c <= 'z' }
func letter(c byte) bool { return lower(c) || c >= 'A' && c <= 'Z' }
