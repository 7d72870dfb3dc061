package awscloud_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/encoding/httpbinding"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
)

// Whatever the SDK signs, as it travels, is verified by sigv4.
func FuzzTheVerifierAgreesWithTheSDK(f *testing.F) {
	f.Add("/greengrass/v2/components/arn:aws:greengrass:eu-west-1:000000000000:components:a:versions:1.0.0", "tagKeys", "c/d", "c-d", "a  b", []byte("{}"))
	f.Add("/things/core:1/./../%2e//x y+z", "a b", "+", "%", " \t", []byte{})
	f.Add("/ä/☃", "ü", "", "=&", "x", []byte{0, 255})
	f.Fuzz(func(t *testing.T, path, name, first, second, header string, body []byte) {
		u, err := url.Parse("http://localhost:4566")
		require.NoError(t, err)
		u.Path = "/" + path
		u.RawPath = httpbinding.EscapePath(u.Path, false)
		u.RawQuery = strings.ReplaceAll(url.Values{name: {first, second}}.Encode(), "+", "%20")
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), bytes.NewReader(body))
		if err != nil || r.URL.EscapedPath() != u.RawPath {
			t.Skip("no client sends such a path")
		}
		r.Header["X-Amzn-Principal"] = []string{header}
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:])
		creds := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret}
		require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), creds, r, hash, "greengrass", "us-east-1", time.Now()))
		var wire bytes.Buffer
		if err := r.Write(&wire); err != nil {
			t.Skip("no client sends such a header")
		}
		got, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil {
			t.Skip("no server reads it")
		}
		sent, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.Equal(t, body, append([]byte{}, sent...))
		v, err := sigv4.New(sigv4.Config{Secrets: one{}})
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), got, func() (string, error) { return hash, nil })
		require.NoError(t, err, "%s", got.URL)
	})
}
