package awsapi_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi"
)

const goodHeader = "AWS4-HMAC-SHA256 Credential=GGFAKEY/20260102/eu-west-1/greengrass/aws4_request, SignedHeaders=host;x-amz-date, Signature=00ff"

func signedFor(method, service string) *http.Request {
	r := httptest.NewRequest(method, "/things", nil)
	r.Header.Set("Authorization", strings.Replace(goodHeader, "greengrass", service, 1))
	return r
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

func TestTheServiceOfTheSignatureAnswers(t *testing.T) {
	h := awsapi.New(awsapi.Config{Services: map[string]http.Handler{"s3": named("objects"), "iot": named("registry")}})
	assert.Equal(t, "objects", do(h, signedFor("GET", "s3")).Body.String())
	assert.Equal(t, "registry", do(h, signedFor("GET", "iot")).Body.String(), "the same path")
	assert.Equal(t, "objects", do(h, httptest.NewRequest(http.MethodOptions, "/bucket/key", nil)).Body.String(), "a preflight is never signed")
}

func TestAServiceThatIsNotServedIsNamedInItsOwnProtocol(t *testing.T) {
	h := awsapi.New(awsapi.Config{})
	for _, service := range []string{
		awsapi.ServiceGreengrass, awsapi.ServiceIoT, awsapi.ServiceExecuteAPI, awsapi.ServiceIoTData,
		awsapi.ServiceIoTDeviceGateway, awsapi.ServiceIoTJobsData, "dynamodb",
	} {
		w := do(h, signedFor("POST", service))
		assert.Equal(t, http.StatusNotImplemented, w.Code)
		assert.Equal(t, "NotImplementedException", w.Header().Get("X-Amzn-ErrorType"))
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.NotEmpty(t, w.Header().Get("X-Amzn-RequestId"))
		var body struct{ Message string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		assert.Contains(t, body.Message, " "+service+" ")
	}
	w := do(h, signedFor("POST", awsapi.ServiceSTS))
	assert.Equal(t, http.StatusNotImplemented, w.Code)
	var body struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	require.NoError(t, xml.Unmarshal(w.Body.Bytes(), &body))
	assert.Equal(t, "NotImplementedException", body.Code)
	assert.Contains(t, body.Message, "sts")
}

type s3Error struct{ Code, Message, Resource, RequestId string } //nolint:revive // S3's spelling

func readS3Error(t *testing.T, w *httptest.ResponseRecorder) s3Error {
	t.Helper()
	assert.Equal(t, "application/xml", w.Header().Get("Content-Type"))
	var e s3Error
	require.NoError(t, xml.Unmarshal(w.Body.Bytes(), &e))
	assert.NotEmpty(t, e.RequestId)
	return e
}

func TestARequestThatNamesNoServiceGetsAnErrorOfS3(t *testing.T) {
	h := awsapi.New(awsapi.Config{Services: map[string]http.Handler{"s3": named("objects")}})
	for name, tt := range map[string]struct {
		method, target, header string
		status                 int
		code, says             string
	}{
		"unsigned, root":           {"GET", "/", "", 403, "AccessDenied", "not signed"},
		"unsigned, an object":      {"GET", "/bucket/a&b", "", 403, "AccessDenied", "not signed"},
		"unsigned, a put":          {"PUT", "/bucket/key", "", 403, "AccessDenied", "not signed"},
		"version 2 presigned":      {"GET", "/bucket/key?AWSAccessKeyId=K&Expires=1&Signature=s", "", 400, "InvalidRequest", "s3v4"},
		"version 2 in the header":  {"GET", "/bucket/key", "AWS K:s", 400, "InvalidRequest", "s3v4"},
		"signed twice":             {"GET", "/bucket/key?X-Amz-Credential=x", goodHeader, 400, "InvalidArgument", "one way"},
		"a bearer token":           {"GET", "/bucket/key", "Bearer ggft_secret", 400, "AuthorizationHeaderMalformed", "AWS4-HMAC-SHA256"},
		"a credential that is odd": {"GET", "/k", "AWS4-HMAC-SHA256 Credential=<b>", 400, "AuthorizationHeaderMalformed", "<b>"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.target, nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			w := do(h, r)
			assert.Equal(t, tt.status, w.Code)
			e := readS3Error(t, w)
			assert.Equal(t, tt.code, e.Code)
			assert.Contains(t, e.Message, tt.says)
			assert.NotContains(t, e.Message, "ggft_secret")
			assert.Equal(t, r.URL.Path, e.Resource)
		})
	}
	w := do(h, httptest.NewRequest(http.MethodHead, "/bucket/key", nil))
	assert.Equal(t, http.StatusForbidden, w.Code)
	assert.Empty(t, w.Body.String(), "HEAD has no body")
}

func TestExternalS3IsNamed(t *testing.T) {
	h := awsapi.New(awsapi.Config{Services: map[string]http.Handler{"s3": awsapi.ExternalS3("https://s3.example.com")}})
	w := do(h, signedFor("GET", "s3"))
	assert.Equal(t, http.StatusNotImplemented, w.Code)
	assert.Contains(t, readS3Error(t, w).Message, "https://s3.example.com")
}

func TestGreengrassSaysItselfWhatIsWrongWithASignature(t *testing.T) {
	h := awsapi.New(awsapi.Config{Services: map[string]http.Handler{"s3": named("objects"), "greengrass": named("greengrass")}})
	r := httptest.NewRequest("GET", "/greengrass/v2/deployments", nil)
	assert.Equal(t, "greengrass", do(h, r).Body.String(), "unsigned")
	r.Header.Set("Authorization", "Bearer x")
	assert.Equal(t, "greengrass", do(h, r).Body.String(), "signed in another way")
}

// pipes is a listener whose connections are in memory, for virtual time.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func TestAConnectionOnWhichNothingMovesIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan error, 1)
		h := awsapi.New(awsapi.Config{Services: map[string]http.Handler{"s3": http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				read <- err
				time.Sleep(time.Hour) // thinking is no stall
				w.WriteHeader(http.StatusNoContent)
			})}})
		ln, srv := make(pipes), awsapi.NewServer(h, nil)
		var served error
		done := make(chan struct{})
		go func() { defer close(done); served = srv.Serve(ln) }()
		open := func(text string) net.Conn {
			client, server := net.Pipe()
			ln <- server
			_, err := io.WriteString(client, text)
			require.NoError(t, err)
			return client
		}
		head := "PUT /b/k HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + strings.Replace(goodHeader, "greengrass", "s3", 1) + "\r\nContent-Length: 4\r\n\r\n"

		start := time.Now()
		stalled := open(head + "ab")
		require.ErrorIs(t, <-read, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(start))
		require.NoError(t, stalled.Close())

		slow := open(head)
		for _, b := range []string{"a", "b", "c", "d"} {
			time.Sleep(50 * time.Second)
			_, err := io.WriteString(slow, b)
			require.NoError(t, err)
		}
		require.NoError(t, <-read, "a slow client is served")
		buf := make([]byte, 256)
		n, err := slow.Read(buf)
		require.NoError(t, err)
		assert.Contains(t, string(buf[:n]), "204")
		require.NoError(t, slow.Close())

		start = time.Now()
		silent := open("GET / HT")
		_, err = io.ReadAll(silent)
		require.NoError(t, err)
		assert.Equal(t, 10*time.Second, time.Since(start), "headers that never end")

		close(ln)
		<-done
		require.NoError(t, srv.Close())
		assert.True(t, errors.Is(served, http.ErrServerClosed) || errors.Is(served, net.ErrClosed))
	})
}
