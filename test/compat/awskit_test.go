package compat_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const (
	awsRegion  = "us-east-1"
	awsAccount = "000000000000"
)

// kit is a ggfleet and an access key to its AWS endpoint.
type kit struct {
	*world.World
	AccessKey, Secret string
	client            *http.Client
}

// awsKit starts a ggfleet, of the test that calls it, with flags.
func awsKit(t *testing.T, flags ...string) *kit {
	t.Helper()
	k := &kit{World: world.Start(t, world.Options{Flags: flags}), client: &http.Client{Timeout: time.Minute}}
	k.AccessKey, k.Secret = k.newAccessKey(t, nil)
	return k
}

// newAccessKey makes an access key; more is added to the request.
func (k *kit) newAccessKey(t *testing.T, more map[string]any) (id, secret string) {
	t.Helper()
	var key struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
	}
	body := map[string]any{"description": "compatibility test"}
	for n, v := range more {
		body[n] = v
	}
	k.Call(t, http.MethodPost, "/accessKeys", body, &key)
	require.NotEmpty(t, key.SecretAccessKey)
	return key.AccessKeyID, key.SecretAccessKey
}

func (k *kit) credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(k.AccessKey, k.Secret, "")
}

// Greengrass is the real SDK's client of the Greengrass V2 API.
func (k *kit) Greengrass(change ...func(*greengrassv2.Options)) *greengrassv2.Client {
	return greengrassv2.New(greengrassv2.Options{
		Region: awsRegion, BaseEndpoint: aws.String(k.AWS), Credentials: k.credentials(), HTTPClient: k.client, RetryMaxAttempts: 1,
	}, change...)
}

// IoT is the real SDK's client of the IoT control plane.
func (k *kit) IoT(change ...func(*iot.Options)) *iot.Client {
	return iot.New(iot.Options{
		Region: awsRegion, BaseEndpoint: aws.String(k.AWS), Credentials: k.credentials(), HTTPClient: k.client, RetryMaxAttempts: 1,
	}, change...)
}

// answer is an answer of the AWS endpoint, read whole.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Raw sends one signed request as no SDK would: what SDKs refuse to send, the
// server must refuse itself. path is as it goes over the wire, with its query.
func (k *kit) Raw(t *testing.T, method, path, service string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, k.AWS+path, bytes.NewReader(body))
	require.NoError(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	sum := sha256.Sum256(body)
	creds, err := k.credentials().Retrieve(context.Background())
	require.NoError(t, err)
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(sum[:]), service, awsRegion, time.Now()))
	return k.send(t, req)
}

func (k *kit) send(t *testing.T, req *http.Request) answer {
	t.Helper()
	res, err := k.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, b}
}
