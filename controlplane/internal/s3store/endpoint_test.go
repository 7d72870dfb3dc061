package s3store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscreds "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// accounts is s3store.Accounts with one user, who can be revoked, and a viewer, who
// is not admitted.
type accounts struct{ revoked bool }

const (
	userKey    = "GGFAUSERUSERUSERUSER"
	viewerKey  = "GGFAVIEWERVIEWERVIEW"
	userSecret = "user-secret-0123456789-abcdefghijklmnopq"
)

func (a *accounts) Secret(_ context.Context, id string) (logx.Secret, bool, error) {
	if id != userKey && id != viewerKey || a.revoked {
		return logx.Secret{}, false, fault.New(fault.NotFound, "no access key %s", id)
	}
	return logx.NewSecret(userSecret), id == userKey, nil
}

// endpoint is the AWS endpoint with the embedded S3 behind it, as clients find
// it: every host name resolves to it.
type endpoint struct {
	port      string
	transport *http.Transport
	store     *s3store.Store
	accounts  *accounts
}

func startEndpoint(t *testing.T, change ...func(*s3store.EmbeddedConfig)) *endpoint {
	t.Helper()
	acc := &accounts{}
	e := startEmbedded(t, append(change, func(c *s3store.EmbeddedConfig) { c.Accounts = acc })...)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = awsapi.NewServer(awsapi.New(awsapi.Config{Services: map[string]http.Handler{awsapi.ServiceS3: e.Proxy()}}), nil)
	srv.Start()
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	tr := s3store.NewTransport()
	tr.Proxy = nil
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return &endpoint{port: port, transport: tr, store: bucketOf(t, e, "artifacts"), accounts: acc}
}

func (e *endpoint) host() string { return "localhost:" + e.port }

func (e *endpoint) minio(t *testing.T, lookup minio.BucketLookupType, key, secret string) *minio.Client {
	t.Helper()
	c, err := minio.New(e.host(), &minio.Options{
		Creds: credentials.NewStaticV4(key, secret, ""), Region: region,
		Transport: e.transport, BucketLookup: lookup, MaxRetries: 1,
	})
	require.NoError(t, err)
	return c
}

func (e *endpoint) sdk(pathStyle bool, key, secret string) *s3.Client {
	return s3.New(s3.Options{
		Region: region, Credentials: awscreds.NewStaticCredentialsProvider(key, secret, ""),
		BaseEndpoint: aws.String("http://" + e.host()), UsePathStyle: pathStyle,
		HTTPClient: &http.Client{Transport: e.transport, Timeout: time.Minute},
		Retryer:    aws.NopRetryer{},
	})
}

func (e *endpoint) do(t *testing.T, method, target string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	require.NoError(t, err)
	res, err := (&http.Client{Transport: e.transport, Timeout: time.Minute}).Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(raw)
}

func TestClientsOfOthersUseTheStore(t *testing.T) {
	e := startEndpoint(t)
	t.Run("the AWS SDK, both styles of address", func(t *testing.T) {
		for _, pathStyle := range []bool{true, false} {
			t.Run(fmt.Sprintf("path style %v", pathStyle), func(t *testing.T) { useSDK(t, e.sdk(pathStyle, userKey, userSecret)) })
		}
	})
	t.Run("minio-go, both styles of address", func(t *testing.T) {
		for name, lookup := range map[string]minio.BucketLookupType{"path": minio.BucketLookupPath, "virtual host": minio.BucketLookupDNS} {
			t.Run(name, func(t *testing.T) { useMinio(t, e.minio(t, lookup, userKey, userSecret)) })
		}
	})
	t.Run("presigned URLs, both styles of address", func(t *testing.T) {
		for _, pathStyle := range []bool{true, false} {
			presigned(t, e, s3.NewPresignClient(e.sdk(pathStyle, userKey, userSecret)))
		}
	})
	t.Run("50 MB in parts", func(t *testing.T) { parts(t, e) })
	t.Run("an upload that waits for 100 Continue", func(t *testing.T) { expectContinue(t, e) })
}

func useSDK(t *testing.T, c *s3.Client) {
	const key = "sdk/a b+ü/x.txt"
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("artifacts"), Key: aws.String(key), Body: strings.NewReader("0123456789"), ContentType: aws.String("text/x-test"),
	})
	require.NoError(t, err)
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("artifacts"), Key: aws.String(key), Range: aws.String("bytes=2-4")})
	require.NoError(t, err)
	raw, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	require.NoError(t, out.Body.Close())
	assert.Equal(t, "234", string(raw))
	assert.Equal(t, "bytes 2-4/10", aws.ToString(out.ContentRange))
	assert.Equal(t, "text/x-test", aws.ToString(out.ContentType))

	list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("artifacts"), Prefix: aws.String("sdk/")})
	require.NoError(t, err)
	require.Len(t, list.Contents, 1)
	assert.Equal(t, key, aws.ToString(list.Contents[0].Key))

	_, err = c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("artifacts"), Key: aws.String(key)})
	require.NoError(t, err)
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("artifacts"), Key: aws.String(key)})
	assert.Equal(t, "NoSuchKey", code(err))
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func useMinio(t *testing.T, c *minio.Client) {
	const key = "minio/a b+ü/x.txt"
	_, err := c.PutObject(t.Context(), "artifacts", key, strings.NewReader("hello"), 5, minio.PutObjectOptions{})
	require.NoError(t, err)
	o, err := c.GetObject(t.Context(), "artifacts", key, minio.GetObjectOptions{})
	require.NoError(t, err)
	raw, err := io.ReadAll(o)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(raw))
	var keys []string
	for oi := range c.ListObjects(t.Context(), "artifacts", minio.ListObjectsOptions{Prefix: "minio/", Recursive: true}) {
		require.NoError(t, oi.Err)
		keys = append(keys, oi.Key)
	}
	assert.Equal(t, []string{key}, keys)
	require.NoError(t, c.RemoveObject(t.Context(), "artifacts", key, minio.RemoveObjectOptions{}))
}

func presigned(t *testing.T, e *endpoint, c *s3.PresignClient) {
	put, err := c.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("artifacts"), Key: aws.String("pre/x")})
	require.NoError(t, err)
	status, body := e.do(t, http.MethodPut, put.URL, strings.NewReader("by url"))
	require.Equal(t, http.StatusOK, status, body)

	get, err := c.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("artifacts"), Key: aws.String("pre/x")})
	require.NoError(t, err)
	status, body = e.do(t, http.MethodGet, get.URL, nil)
	require.Equal(t, http.StatusOK, status, body)
	assert.Equal(t, "by url", body)

	for name, tamper := range map[string]func(u *url.URL, q url.Values){
		"another key":   func(u *url.URL, _ url.Values) { u.Path = strings.Replace(u.Path, "pre/x", "pre/y", 1) },
		"a longer life": func(_ *url.URL, q url.Values) { q.Set("X-Amz-Expires", "604800") },
		"another signer": func(_ *url.URL, q url.Values) {
			q.Set("X-Amz-Credential", strings.Replace(q.Get("X-Amz-Credential"), userKey, rootKey, 1))
		},
		"another signature": func(_ *url.URL, q url.Values) { q.Set("X-Amz-Signature", strings.Repeat("0", 64)) },
	} {
		u, err := url.Parse(get.URL)
		require.NoError(t, err)
		q := u.Query()
		tamper(u, q)
		u.RawQuery = q.Encode()
		status, body := e.do(t, http.MethodGet, u.String(), nil)
		assert.Equal(t, http.StatusForbidden, status, "%s: %s", name, body)
	}
	status, _ = e.do(t, http.MethodPut, get.URL, strings.NewReader("overwritten"))
	assert.Equal(t, http.StatusForbidden, status, "a URL to read does not write")
}

func parts(t *testing.T, e *endpoint) {
	const size = 50 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>8) ^ byte(i*31)
	}
	c := e.minio(t, minio.BucketLookupPath, userKey, userSecret)
	_, err := c.PutObject(t.Context(), "artifacts", "parts/k", bytes.NewReader(data), size, minio.PutObjectOptions{PartSize: 8 << 20})
	require.NoError(t, err)
	r, info, err := e.store.Open(t.Context(), "parts/k")
	require.NoError(t, err)
	defer r.Close()
	assert.EqualValues(t, size, info.Size)
	h := sha256.New()
	_, err = io.Copy(h, r)
	require.NoError(t, err)
	want := sha256.Sum256(data)
	assert.Equal(t, want[:], h.Sum(nil))
}

func expectContinue(t *testing.T, e *endpoint) {
	put, err := s3.NewPresignClient(e.sdk(true, userKey, userSecret)).
		PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("artifacts"), Key: aws.String("continue/x")})
	require.NoError(t, err)
	send := func(target string) (status int, sent bool) {
		body := &noticed{Reader: strings.NewReader("hello")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, target, body)
		require.NoError(t, err)
		req.ContentLength = 5
		req.Header.Set("Expect", "100-continue")
		tr := e.transport.Clone()
		tr.ExpectContinueTimeout = time.Minute // the body goes only after the word of the server
		defer tr.CloseIdleConnections()
		res, err := tr.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode, body.read
	}
	status, sent := send(put.URL)
	assert.Equal(t, http.StatusOK, status)
	assert.True(t, sent)
	u, _, _ := strings.Cut(put.URL, "?")
	status, sent = send(u)
	assert.Equal(t, http.StatusForbidden, status)
	assert.False(t, sent, "a refused upload is not sent")
}

type noticed struct {
	io.Reader
	read bool
}

func (n *noticed) Read(p []byte) (int, error) {
	n.read = true
	return n.Reader.Read(p)
}

func TestWhoeverHasNoKeyIsRefused(t *testing.T) {
	e := startEndpoint(t)
	get := func(key, secret string) error {
		_, err := e.sdk(true, key, secret).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("artifacts")})
		return err
	}
	require.NoError(t, get(userKey, userSecret))
	require.NoError(t, get(rootKey, rootSecret))
	assert.Equal(t, "SignatureDoesNotMatch", code(get(userKey, "wrong")))
	assert.Equal(t, "SignatureDoesNotMatch", code(get(rootKey, userSecret)))
	assert.Equal(t, "InvalidAccessKeyId", code(get("GGFAAAAAAAAAAAAAAAAA", userSecret)))

	status, body := e.do(t, http.MethodGet, "http://"+e.host()+"/artifacts/x", nil)
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "AccessDenied")

	e.accounts.revoked = true
	assert.Equal(t, "InvalidAccessKeyId", code(get(userKey, userSecret)), "a revoked key is refused from the next request on")
}

func TestAKeyThatIsNotAdmittedIsDeniedWhateverItWants(t *testing.T) {
	e := startEndpoint(t)
	ctx, user, viewer := t.Context(), e.sdk(true, userKey, userSecret), e.sdk(true, viewerKey, userSecret)
	bucket, key := aws.String("artifacts"), aws.String("x")
	_, err := user.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("x")})
	require.NoError(t, err)
	_, err = user.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: bucket, Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + viewerKey + `"},"Action":"s3:*","Resource":["arn:aws:s3:::artifacts","arn:aws:s3:::artifacts/*"]}]}`)})
	require.NoError(t, err)
	for name, call := range map[string]func() error{
		"ListBuckets":   func() error { _, err := viewer.ListBuckets(ctx, &s3.ListBucketsInput{}); return err },
		"HeadBucket":    func() error { _, err := viewer.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket}); return err },
		"ListObjectsV2": func() error { _, err := viewer.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket}); return err },
		"GetObject": func() error {
			_, err := viewer.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"HeadObject": func() error {
			_, err := viewer.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"PutObject": func() error {
			_, err := viewer.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("y")})
			return err
		},
		"CopyObject": func() error {
			_, err := viewer.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("y"), CopySource: aws.String("artifacts/x")})
			return err
		},
		"DeleteObject": func() error {
			_, err := viewer.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"CreateMultipartUpload": func() error {
			_, err := viewer.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
			return err
		},
		"CreateBucket": func() error {
			_, err := viewer.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("mine")})
			return err
		},
		"GetBucketPolicy": func() error {
			_, err := viewer.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: bucket})
			return err
		},
	} {
		err := call()
		if strings.HasPrefix(name, "Head") { // has no body to say more in
			assert.Equal(t, "Forbidden", code(err), "%s: %v", name, err)
			continue
		}
		assert.Equal(t, "AccessDenied", code(err), "%s: %v", name, err)
		assert.ErrorContains(t, err, "does not open the bucket", name)
	}
	_, err = e.sdk(true, viewerKey, "wrong").ListBuckets(ctx, &s3.ListBucketsInput{})
	assert.Equal(t, "SignatureDoesNotMatch", code(err), "who has no secret is told nothing of the key")

	get, err := s3.NewPresignClient(viewer).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	status, body := e.do(t, http.MethodGet, get.URL, nil)
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "<Code>AccessDenied</Code>")
}

func TestVersitygwsOwnUserAdministrationIsNotReachable(t *testing.T) {
	e := startEndpoint(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+e.host()+"/list-users", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+userKey+"/20260101/"+region+"/s3/aws4_request, SignedHeaders=host, Signature=0")
	res, err := e.transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
}
