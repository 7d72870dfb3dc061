package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

const (
	key       = "GGFAABCDEFGHIJKLMNOP"
	secret    = "secretsecretsecretsecretsecretsecretsecr"
	signToken = "dG9rZW4=/+abc"
)

var signedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// recorded is one request of testdata/requests.json.
type recorded struct {
	Name    string
	Token   string
	Method  string
	Host    string
	Target  string
	Headers map[string][]string
	Body    string
}

func readRecorded(t testing.TB) []recorded {
	t.Helper()
	raw, err := os.ReadFile("testdata/requests.json")
	require.NoError(t, err)
	var all []recorded
	require.NoError(t, json.Unmarshal(raw, &all))
	return all
}

func find(t testing.TB, name string) recorded {
	t.Helper()
	for _, r := range readRecorded(t) {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no recorded request is named %q", name)
	return recorded{}
}

// text is the request as it travels, and where its target and headers lie.
func (r recorded) text() (head string, lines []string) {
	lines = append(lines, "Host: "+r.Host)
	length := false
	for name, values := range r.Headers {
		length = length || strings.EqualFold(name, "Content-Length")
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	if !length {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(r.Body)))
	}
	slices.Sort(lines)
	return r.Method + " " + r.Target + " HTTP/1.1", lines
}

func (r recorded) request(t testing.TB) *http.Request {
	t.Helper()
	head, lines := r.text()
	req, err := read(head, lines, r.Body)
	require.NoError(t, err)
	return req
}

func read(head string, lines []string, body string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + body)))
}

func bodySum(r *http.Request) func() (string, error) {
	return func() (string, error) {
		raw, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(raw))
		sum := sha256.Sum256(raw)
		return hex.EncodeToString(sum[:]), err
	}
}

// one is a Secrets with one permanent and one temporary key.
type one struct {
	expires time.Time
	err     error
}

func (o one) Secret(_ context.Context, id, token string) (sigv4.Credential, error) {
	switch {
	case o.err != nil:
		return sigv4.Credential{}, o.err
	case id == key && token == "":
		return sigv4.Credential{Secret: logx.NewSecret(secret), Role: access.Admin}, nil
	case id == key && token == signToken:
		return sigv4.Credential{Secret: logx.NewSecret(secret), Device: "core-1", Expires: o.expires}, nil
	}
	return sigv4.Credential{}, fault.New(fault.NotFound, "there is no access key %s", id)
}

func verifier(t testing.TB, at time.Time, s one) *sigv4.Verifier {
	t.Helper()
	v, err := sigv4.New(sigv4.Config{Secrets: s, Now: func() time.Time { return at }})
	require.NoError(t, err)
	return v
}

func verify(t testing.TB, at time.Time, r *http.Request) (sigv4.Caller, error) {
	t.Helper()
	return verifier(t, at, one{expires: signedAt.Add(time.Hour)}).Verify(t.Context(), r, bodySum(r))
}

func requireCode(t testing.TB, err error, code string) string {
	t.Helper()
	e, ok := errors.AsType[*sigv4.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, e.Code, e.Message)
	return e.Message
}

const unsignedPayload = "botocore: an unsigned payload"

func TestWhatClientsSignedIsAccepted(t *testing.T) {
	for _, rec := range readRecorded(t) {
		t.Run(rec.Name, func(t *testing.T) {
			got, err := verify(t, signedAt.Add(time.Second), rec.request(t))
			if rec.Name == unsignedPayload {
				assert.Contains(t, requireCode(t, err, sigv4.CodeInvalid), "UNSIGNED-PAYLOAD")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, key, got.AccessKey)
			assert.Equal(t, "eu-west-1", got.Region)
			if rec.Token != "" {
				assert.Equal(t, "core-1", got.Device)
				assert.Empty(t, got.Role)
				return
			}
			assert.Equal(t, access.Admin, got.Role)
		})
	}
}

// Each byte of the request line, of each signed header and of the body is
// changed in turn.
func TestNoByteThatIsSignedCanBeChanged(t *testing.T) {
	flip := func(s string, i int) string { return s[:i] + string([]byte{s[i] ^ 1}) + s[i+1:] }
	for _, rec := range readRecorded(t) {
		if rec.Name == unsignedPayload || strings.Contains(rec.Name, "dot segments") {
			continue // segments that mean nothing may change
		}
		t.Run(rec.Name, func(t *testing.T) {
			v := verifier(t, signedAt, one{expires: signedAt.Add(time.Hour)})
			head, lines := rec.text()
			refused := func(what, head string, lines []string, body string) {
				r, err := read(head, lines, body)
				if err != nil {
					return // it does not even parse
				}
				_, err = v.Verify(t.Context(), r, bodySum(r))
				_, ok := errors.AsType[*sigv4.Error](err)
				require.True(t, ok, "%s: %s: %v", what, head, err)
			}
			for i := range strings.LastIndex(head, " ") {
				refused("request line", flip(head, i), lines, rec.Body)
			}
			for l, line := range lines {
				if strings.HasPrefix(line, "Content-Length:") || strings.EqualFold(line[:min(8, len(line))], "amz-sdk-") && strings.HasPrefix(rec.Name, "boto") {
					continue // not signed, or seen by the flips of the body
				}
				for i := range line {
					if name, _, _ := strings.Cut(line, ":"); i == len(name)+1 {
						continue // the space before the value
					}
					changed := slices.Clone(lines)
					changed[l] = flip(line, i)
					refused(line, head, changed, rec.Body)
				}
				refused("left out: "+line, head, slices.Delete(slices.Clone(lines), l, l+1), rec.Body)
				refused("twice: "+line, head, append(slices.Clone(lines), line), rec.Body)
			}
			for i := range rec.Body {
				refused("body", head, lines, flip(rec.Body, i))
			}
			refused("a header of AWS' own that nobody signed", head, append(slices.Clone(lines), "X-Amzn-Principal: arn"), rec.Body)
			more := "?x=1"
			if strings.Contains(rec.Target, "?") {
				more = "&x=1"
			}
			refused("a longer query", strings.Replace(head, " HTTP/1.1", more+" HTTP/1.1", 1), lines, rec.Body)
		})
	}
}

func TestWhatProxiesAddIsNoMatter(t *testing.T) {
	r := find(t, "boto3: a POST with a body").request(t)
	r.Header.Set("X-Amzn-Trace-Id", "Root=1-0-0")
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	_, err := verify(t, signedAt, r)
	require.NoError(t, err)
}

func TestTheOrderOfAQueryIsNoMatter(t *testing.T) {
	rec := find(t, "boto3: a query with several parameters")
	path, query, _ := strings.Cut(rec.Target, "?")
	pairs := strings.Split(query, "&")
	slices.Reverse(pairs)
	rec.Target = path + "?" + strings.Join(pairs, "&")
	_, err := verify(t, signedAt, rec.request(t))
	require.NoError(t, err)
}

func TestAClockThatIsOffIsToldTheTimeInTheWordsOfAWS(t *testing.T) {
	header, presigned := find(t, "boto3: a POST with a body"), find(t, "botocore: presigned")
	for name, tt := range map[string]struct {
		rec  recorded
		late time.Duration // of the server's clock
		says string
	}{
		"five minutes late":                {header, 5 * time.Minute, ""},
		"five minutes early":               {header, -5 * time.Minute, ""},
		"later":                            {header, 5*time.Minute + time.Second, "Signature expired: 20260102T030405Z is now earlier than 20260102T030406Z (20260102T030906Z - 5 min.)"},
		"earlier":                          {header, -5*time.Minute - time.Second, "Signature not yet current: 20260102T030405Z is still later than 20260102T030404Z (20260102T025904Z + 5 min.)"},
		"presigned, to the end":            {presigned, 300 * time.Second, ""},
		"presigned, after its end":         {presigned, 301 * time.Second, "Signature expired: 20260102T030905Z is now earlier than 20260102T030906Z"},
		"presigned, by a clock far ahead":  {presigned, -6 * time.Minute, "Signature not yet current: 20260102T030405Z"},
		"presigned, by a clock just ahead": {presigned, -4 * time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify(t, signedAt.Add(tt.late), tt.rec.request(t))
			if tt.says == "" {
				require.NoError(t, err)
				return
			}
			assert.Contains(t, requireCode(t, err, sigv4.CodeInvalid), tt.says)
		})
	}
}

func TestRequestsAreRefusedByTheirCode(t *testing.T) {
	auth := func(old, instead string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, instead, 1))
		}
	}
	query := func(old, instead string) func(*http.Request) {
		return func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, old, instead, 1) }
	}
	const header, presigned, session = "boto3: a POST with a body", "botocore: presigned with a session token", "boto3: a session token"
	for name, tt := range map[string]struct {
		rec    string
		change func(*http.Request)
		code   string
		says   string
	}{
		"no signature":                      {header, func(r *http.Request) { r.Header.Del("Authorization") }, sigv4.CodeMissing, "not signed"},
		"a bearer token":                    {header, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, sigv4.CodeIncomplete, "AWS4-HMAC-SHA256"},
		"version 2":                         {header, func(r *http.Request) { r.Header.Set("Authorization", "AWS k:s") }, sigv4.CodeIncomplete, "Version 2"},
		"no Signature":                      {header, auth(", Signature=", ", Other="), sigv4.CodeIncomplete, "Signature"},
		"no SignedHeaders":                  {header, auth("SignedHeaders=content-type;host;x-amz-date, ", ""), sigv4.CodeIncomplete, "SignedHeaders"},
		"two Signatures":                    {header, auth("SignedHeaders=", "Signature=00, SignedHeaders="), sigv4.CodeIncomplete, "two"},
		"a short signature":                 {header, auth("Signature=", "Signature=00"), sigv4.CodeIncomplete, "64 hexadecimal"},
		"a signed header in upper case":     {header, auth("host;", "Host;"), sigv4.CodeIncomplete, "Host"},
		"a signed header named twice":       {header, auth("host;", "host;host;"), sigv4.CodeIncomplete, "twice"},
		"signed headers without end":        {header, auth("host;", strings.Repeat("a;", 100)), sigv4.CodeIncomplete, "limit is 64"},
		"an Authorization without end":      {header, auth("host;", strings.Repeat("a", 9000)), sigv4.CodeIncomplete, "limit is 8192"},
		"no time":                           {header, func(r *http.Request) { r.Header.Del("X-Amz-Date") }, sigv4.CodeIncomplete, "X-Amz-Date"},
		"two times":                         {header, func(r *http.Request) { r.Header.Add("X-Amz-Date", "20260102T030405Z") }, sigv4.CodeIncomplete, "twice"},
		"a time that is none":               {header, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260102T030405.5Z") }, sigv4.CodeIncomplete, "YYYYMMDD"},
		"the scope of another day":          {header, auth("/20260102/", "/20260101/"), sigv4.CodeInvalid, "Credential scope"},
		"host not signed":                   {header, auth("host;", ""), sigv4.CodeInvalid, "'host' must be a 'SignedHeader'"},
		"the time not signed":               {header, auth(";x-amz-date", ""), sigv4.CodeInvalid, "'x-amz-date' must be"},
		"the session token not signed":      {session, auth(";x-amz-security-token", ""), sigv4.CodeInvalid, "'x-amz-security-token' must be"},
		"an unknown key":                    {header, auth(key, "GGFAZZZZZZZZZZZZZZZZ"), sigv4.CodeUnrecognized, "security token included in the request is invalid"},
		"a session token of somebody else":  {session, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "other") }, sigv4.CodeUnrecognized, "invalid"},
		"a session token without end":       {session, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", strings.Repeat("t", 5000)) }, sigv4.CodeIncomplete, "limit is 4096"},
		"a hash of another body":            {"botocore: the hash of the body in a header", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("[]")) }, sigv4.CodeInvalid, "x-amz-content-sha256"},
		"presigned for ever":                {presigned, query("X-Amz-Expires=300", "X-Amz-Expires=604801"), sigv4.CodeIncomplete, "604800"},
		"presigned for no time":             {presigned, query("X-Amz-Expires=300", "X-Amz-Expires=0"), sigv4.CodeIncomplete, "X-Amz-Expires"},
		"presigned for longer than signed":  {presigned, query("X-Amz-Expires=300", "X-Amz-Expires=301"), sigv4.CodeInvalid, "does not match"},
		"presigned without expiry":          {presigned, query("X-Amz-Expires=300", ""), sigv4.CodeIncomplete, "0 X-Amz-Expires"},
		"presigned with two signatures":     {presigned, query("X-Amz-Expires", "X-Amz-Signature=00&X-Amz-Expires"), sigv4.CodeIncomplete, "2 X-Amz-Signature"},
		"presigned with two session tokens": {presigned, query("X-Amz-Expires", "X-Amz-Security-Token=00&X-Amz-Expires"), sigv4.CodeIncomplete, "2 X-Amz-Security-Token"},
		"signed twice":                      {presigned, func(r *http.Request) { r.Header.Set("Authorization", goodHeader) }, sigv4.CodeIncomplete, "both"},
	} {
		t.Run(name, func(t *testing.T) {
			r := find(t, tt.rec).request(t)
			tt.change(r)
			_, err := verify(t, signedAt, r)
			says := requireCode(t, err, tt.code)
			assert.Contains(t, says, tt.says)
			assert.Less(t, len(says), 500, "what came in is not echoed at length")
			assert.NotContains(t, says, secret)
		})
	}
}

func TestTemporaryCredentialsEnd(t *testing.T) {
	r := find(t, "boto3: a session token").request(t)
	s := one{expires: signedAt.Add(time.Minute)}
	_, err := verifier(t, signedAt.Add(time.Minute-time.Second), s).Verify(t.Context(), r, bodySum(r))
	require.NoError(t, err)
	_, err = verifier(t, signedAt.Add(time.Minute), s).Verify(t.Context(), r, bodySum(r))
	requireCode(t, err, sigv4.CodeExpired)

	r.Header.Set("Accept-Encoding", "identity")
	r.Method = http.MethodDelete
	_, err = verifier(t, signedAt.Add(time.Minute), s).Verify(t.Context(), r, bodySum(r))
	requireCode(t, err, sigv4.CodeInvalid) // only who has the secret learns of it
}

func TestAStoreThatFailsIsNotTheCallersFault(t *testing.T) {
	r := find(t, "boto3: a session token").request(t)
	broken := errors.New("no quorum")
	_, err := verifier(t, signedAt, one{err: broken}).Verify(t.Context(), r, bodySum(r))
	require.ErrorIs(t, err, broken)
	_, ok := errors.AsType[*sigv4.Error](err)
	assert.False(t, ok)
}

func TestOfWhoHasNoKeyNoBodyIsRead(t *testing.T) {
	unread := func() (string, error) {
		assert.Fail(t, "the body is read")
		return "", nil
	}
	for name, change := range map[string]func(*http.Request){
		"not signed": func(r *http.Request) { r.Header.Del("Authorization") },
		"an unknown key": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), key, "GGFAUNKNOWN", 1))
		},
		"a header more": func(r *http.Request) { r.Header.Set("X-Amz-Meta", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			r := find(t, "boto3: a session token").request(t)
			change(r)
			_, err := verifier(t, signedAt, one{}).Verify(t.Context(), r, unread)
			_, ok := errors.AsType[*sigv4.Error](err)
			assert.True(t, ok, "%v", err)
		})
	}
	broken := errors.New("cut off")
	_, err := verifier(t, signedAt, one{}).Verify(t.Context(), find(t, "boto3: a session token").request(t), func() (string, error) { return "", broken })
	require.ErrorIs(t, err, broken)
}

func TestACallerMayDoWhatItsRoleIncludes(t *testing.T) {
	viewer, admin := sigv4.Caller{AccessKey: key, Role: access.Viewer}, sigv4.Caller{AccessKey: key, Role: access.Admin}
	require.NoError(t, viewer.Allowed(access.Viewer))
	require.NoError(t, admin.Allowed(access.Admin))
	assert.Contains(t, requireCode(t, viewer.Allowed(access.Admin), sigv4.CodeDenied), "role viewer")
	device := sigv4.Caller{AccessKey: "ASIA", Device: "core-1"}
	assert.Contains(t, requireCode(t, device.Allowed(access.Viewer), sigv4.CodeDenied), "temporary credentials of thing core-1")
}

func TestAVerifierNeedsItsSecrets(t *testing.T) {
	_, err := sigv4.New(sigv4.Config{})
	require.Error(t, err)
	_, err = sigv4.New(sigv4.Config{Secrets: one{}, Skew: -1})
	require.Error(t, err)
}
