package stsapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/stsapi"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

const secret = "secretsecretsecretsecretsecretsecretsecr"

// secrets has one key that may only read, and the credentials of one device.
type secrets struct{ broken bool }

func (s secrets) Secret(_ context.Context, key, token string) (sigv4.Credential, error) {
	c := sigv4.Credential{Secret: logx.NewSecret(secret)}
	switch {
	case s.broken:
		return c, errors.New("the store does not answer")
	case key == "GGFAVIEWER" && token == "":
		c.Role = access.Viewer
	case key == "GGFADEVICE" && token == "session":
		c.Device = "saw-1"
	default:
		return c, fault.New(fault.NotFound, "no key %s", key)
	}
	return c, nil
}

type answer struct {
	ARN     string `xml:"GetCallerIdentityResult>Arn"`
	Account string `xml:"GetCallerIdentityResult>Account"`
	UserID  string `xml:"GetCallerIdentityResult>UserId"`
	Code    string `xml:"Error>Code"`
	Message string `xml:"Error>Message"`
}

// ask sends body as the holder of key.
func ask(t *testing.T, s secrets, key, secret, token, body string) (int, answer) {
	t.Helper()
	verifier, err := sigv4.New(sigv4.Config{Secrets: s})
	require.NoError(t, err)
	h, err := stsapi.New(stsapi.Config{Verifier: verifier, Realm: names.Realm{Region: "us-east-1", Account: "000000000000"}, RoleAlias: "Cores"})
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(body))
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: token},
		r, hex.EncodeToString(sum[:]), "sts", "us-east-1", time.Now()))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	assert.Equal(t, "text/xml", w.Header().Get("Content-Type"))
	var got answer
	require.NoError(t, xml.Unmarshal(w.Body.Bytes(), &got), w.Body.String())
	return w.Code, got
}

const whoAmI = "Action=GetCallerIdentity&Version=2011-06-15"

func TestWhoeverSignedIsToldWhoItIs(t *testing.T) {
	status, got := ask(t, secrets{}, "GGFAVIEWER", secret, "", whoAmI)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, answer{ARN: "arn:aws:iam::000000000000:user/GGFAVIEWER", Account: "000000000000", UserID: "GGFAVIEWER"}, got)

	status, got = ask(t, secrets{}, "GGFADEVICE", secret, "session", whoAmI)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, answer{ARN: "arn:aws:sts::000000000000:assumed-role/Cores/saw-1", Account: "000000000000", UserID: "GGFADEVICE:saw-1"}, got)
}

func TestEverybodyElseIsRefusedInTheWordsOfSTS(t *testing.T) {
	for name, tt := range map[string]struct {
		key, secret, token, body string
		broken                   bool
		status                   int
		code                     string
	}{
		"a key that is not known":  {"GGFANOBODY", secret, "", whoAmI, false, 403, "InvalidClientTokenId"},
		"another secret":           {"GGFAVIEWER", "x" + secret, "", whoAmI, false, 403, "SignatureDoesNotMatch"},
		"another operation":        {"GGFAVIEWER", secret, "", "Action=AssumeRole&Version=2011-06-15", false, 400, "InvalidAction"},
		"no operation":             {"GGFAVIEWER", secret, "", "", false, 400, "InvalidAction"},
		"a body that is too long":  {"GGFAVIEWER", secret, "", strings.Repeat("x", 17<<10), false, 400, "MalformedInput"},
		"a store that is away now": {"GGFAVIEWER", secret, "", whoAmI, true, 500, "InternalFailure"},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := ask(t, secrets{tt.broken}, tt.key, tt.secret, tt.token, tt.body)
			assert.Equal(t, tt.status, status)
			assert.Equal(t, tt.code, got.Code)
			assert.NotEmpty(t, got.Message)
			assert.Empty(t, got.Account)
		})
	}
}
