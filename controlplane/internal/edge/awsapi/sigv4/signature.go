package sigv4

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of what a signature may say; clients stay far below.
const (
	maxAuthorization = 8 << 10 // bytes
	maxSigned        = 64      // signed headers
	maxToken         = 4 << 10 // bytes of a session token
	maxExpires       = 7 * 24 * time.Hour
	timeForm         = "20060102T150405Z"
)

// signature is all that a request says about its signature, not yet verified.
type signature struct {
	Scope
	signed  []string // names of headers, as the client lists them
	sum     []byte
	date    string // as it was signed
	at      time.Time
	expires time.Duration // of a presigned request
	token   string        // of temporary credentials
}

// parse reads the signature of r. Its errors are those of ParseScope, and
// others that say in words for the caller what is malformed.
func parse(r *http.Request) (signature, error) {
	scope, err := ParseScope(r)
	if err != nil {
		return signature{}, err
	}
	s := signature{Scope: scope}
	if scope.Presigned {
		err = s.fromQuery(r.URL.Query())
	} else {
		err = s.fromHeaders(r.Header)
	}
	if err != nil {
		return signature{}, err
	}
	if len(s.token) > maxToken {
		return signature{}, fmt.Errorf("the session token has %d bytes, the limit is %d", len(s.token), maxToken)
	}
	return s, nil
}

func (s *signature) fromHeaders(h http.Header) error {
	value := h.Get("Authorization")
	if len(value) > maxAuthorization {
		return fmt.Errorf("the Authorization header has %d bytes, the limit is %d", len(value), maxAuthorization)
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(strings.TrimSpace(value), Algorithm), ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(field), "=")
		if _, twice := fields[name]; twice {
			return fmt.Errorf("the Authorization header has two %.40q fields", name)
		}
		fields[name] = v
	}
	if len(fields) != 3 || fields["SignedHeaders"] == "" || fields["Signature"] == "" { // ParseScope saw to Credential
		return errors.New("the Authorization header must have Credential, SignedHeaders and Signature, and nothing else")
	}
	if len(h.Values("X-Amz-Date")) > 1 || len(h.Values("Date")) > 1 || len(h.Values("X-Amz-Security-Token")) > 1 {
		return errors.New("X-Amz-Date, Date or X-Amz-Security-Token came twice")
	}
	s.token = h.Get("X-Amz-Security-Token")
	if err := s.setTime(dateOf(h)); err != nil {
		return err
	}
	return s.setSigned(fields["SignedHeaders"], fields["Signature"])
}

// dateOf returns the time of signing in the form that is signed. Clients that
// cannot set X-Amz-Date send Date, in its own form.
func dateOf(h http.Header) string {
	if v := h.Get("X-Amz-Date"); v != "" {
		return v
	}
	v := h.Get("Date")
	if at, err := mail.ParseDate(v); err == nil {
		return at.UTC().Format(timeForm)
	}
	return v
}

func (s *signature) fromQuery(q url.Values) error {
	one := func(name string) (string, error) {
		if n := len(q[name]); n != 1 {
			return "", fmt.Errorf("the query has %d %s parameters; it needs one", n, name)
		}
		return q.Get(name), nil
	}
	values := map[string]string{}
	for _, name := range []string{"X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		v, err := one(name)
		if err != nil {
			return err
		}
		values[name] = v
	}
	if q.Has("X-Amz-Security-Token") {
		v, err := one("X-Amz-Security-Token")
		if err != nil {
			return err
		}
		s.token = v
	}
	n, err := strconv.Atoi(values["X-Amz-Expires"])
	if limit := int(maxExpires / time.Second); err != nil || n < 1 || n > limit {
		return fmt.Errorf("X-Amz-Expires is %.40q; it must be a number of seconds from 1 to %d", values["X-Amz-Expires"], limit)
	}
	s.expires = time.Duration(n) * time.Second
	if err := s.setTime(values["X-Amz-Date"]); err != nil {
		return err
	}
	return s.setSigned(values["X-Amz-SignedHeaders"], values["X-Amz-Signature"])
}

func (s *signature) setTime(date string) error {
	if date == "" {
		return errors.New("the request has neither an X-Amz-Date nor a Date")
	}
	at, err := time.Parse(timeForm, date)
	if err != nil || len(date) != len(timeForm) {
		return fmt.Errorf("the date of the signature is %.40q; its form is YYYYMMDD'T'hhmmss'Z'", date)
	}
	s.date, s.at = date, at
	return nil
}

func (s *signature) setSigned(list, sum string) error {
	s.signed = strings.Split(list, ";")
	if len(s.signed) > maxSigned {
		return fmt.Errorf("there are %d signed headers, the limit is %d", len(s.signed), maxSigned)
	}
	seen := map[string]bool{}
	for _, name := range s.signed {
		if name == "" || seen[name] || !only(name, func(c byte) bool { return lower(c) || digit(c) || c == '-' || c == '_' || c == '.' }) {
			return fmt.Errorf("the signed header %.40q is empty, named twice or not in lower case", name)
		}
		seen[name] = true
	}
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != 32 || sum != strings.ToLower(sum) {
		return errors.New("the signature is not 64 hexadecimal digits in lower case")
	}
	s.sum = raw
	return nil
}
