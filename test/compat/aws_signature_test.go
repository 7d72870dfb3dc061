package compat_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// signing is one ggfleet for the tests of who may call.
type signing struct{ *kit }

func TestSigning(t *testing.T) {
	s := signing{awsKit(t)}
	for name, test := range map[string]func(*testing.T){
		"what is wrong with a signature is said by its code":     s.refused,
		"a link that was signed before is a request":             s.presigned,
		"a key that was deleted is refused from then on":         s.revoked,
		"a viewer's key reads, and does not open the bucket":     s.viewer,
		"a device's temporary credentials are known and no more": s.device,
	} {
		t.Run(name, test)
	}
}

// sign returns a signed request for the body, at some time.
func (s signing) sign(t *testing.T, method, path, body string, at time.Time, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.AWS+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	sum := sha256.Sum256([]byte(body))
	creds, err := s.credentials().Retrieve(t.Context())
	require.NoError(t, err)
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(sum[:]), "greengrass", awsRegion, at))
	return req
}

func (s signing) refused(t *testing.T) {
	const path = "/greengrass/v2/components"
	now := time.Now()
	auth := func(r *http.Request, old, instead string) *http.Request {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, instead, 1))
		return r
	}
	for name, tt := range map[string]struct {
		request *http.Request
		code    string
		says    string
	}{
		"nothing signed": {func() *http.Request {
			r := s.sign(t, "GET", path, "", now)
			r.Header.Del("Authorization")
			return r
		}(), "MissingAuthenticationTokenException", "not signed"},
		"a signature without its end": {auth(s.sign(t, "GET", path, "", now), "Signature=", "Signatur="), "IncompleteSignatureException", "Signature"},
		"another path":                {func() *http.Request { r := s.sign(t, "GET", path, "", now); r.URL.Path += "x"; return r }(), "InvalidSignatureException", "does not match"},
		"another body": {func() *http.Request {
			r := s.sign(t, "POST", "/greengrass/v2/deployments", "{}", now)
			r.Body = http.NoBody
			r.ContentLength = 0
			return r
		}(), "InvalidSignatureException", "does not match"},
		"an unknown key": {auth(s.sign(t, "GET", path, "", now), s.AccessKey, "GGFAAAAAAAAAAAAAAAAA"), "UnrecognizedClientException", "security token"},
		"a clock behind": {s.sign(t, "GET", path, "", now.Add(-time.Hour)), "InvalidSignatureException", "Signature expired: "},
		"a clock ahead":  {s.sign(t, "GET", path, "", now.Add(time.Hour)), "InvalidSignatureException", "Signature not yet current: "},
		"an unsigned body": {
			s.sign(t, "POST", "/greengrass/v2/deployments", "{}", now, "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"),
			"InvalidSignatureException", "x-amz-content-sha256",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.send(t, tt.request)
			assert.Equal(t, http.StatusForbidden, a.Status)
			assert.Equal(t, tt.code, a.Header.Get("X-Amzn-ErrorType"))
			assert.NotEmpty(t, a.Header.Get("X-Amzn-RequestId"))
			served, err := http.ParseTime(a.Header.Get("Date"))
			require.NoError(t, err, "SDKs correct their clocks by it")
			assert.WithinDuration(t, time.Now(), served, time.Minute)
			var body struct{ Message string }
			require.NoError(t, json.Unmarshal(a.Body, &body))
			assert.Contains(t, body.Message, tt.says)
		})
	}
}

func (s signing) presigned(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.AWS+"/greengrass/v2/coreDevices?maxResults=5&X-Amz-Expires=600", http.NoBody)
	require.NoError(t, err)
	creds, err := s.credentials().Retrieve(t.Context())
	require.NoError(t, err)
	empty := sha256.Sum256(nil)
	link, header, err := v4.NewSigner().PresignHTTP(t.Context(), creds, req, hex.EncodeToString(empty[:]), "greengrass", awsRegion, time.Now())
	require.NoError(t, err)
	get := func(link string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, http.NoBody)
		require.NoError(t, err)
		for k, v := range header {
			if k != "Host" {
				req.Header[k] = v
			}
		}
		return s.send(t, req)
	}
	assert.Equal(t, http.StatusOK, get(link).Status)
	a := get(strings.Replace(link, "maxResults=5", "maxResults=6", 1))
	assert.Equal(t, "InvalidSignatureException", a.Header.Get("X-Amzn-ErrorType"))
}

func (s signing) revoked(t *testing.T) {
	k := *s.kit
	k.AccessKey, k.Secret = s.newAccessKey(t, nil)
	must(k.Greengrass().ListComponents(t.Context(), &greengrassv2.ListComponentsInput{}))(t)
	s.Call(t, http.MethodDelete, "/accessKeys/"+k.AccessKey, nil, nil)
	_, err := k.Greengrass().ListComponents(t.Context(), &greengrassv2.ListComponentsInput{})
	assert.Equal(t, "UnrecognizedClientException", codeOf(t, err))
	_, err = k.IoT().ListThings(t.Context(), &iot.ListThingsInput{})
	assert.Equal(t, "UnrecognizedClientException", codeOf(t, err))
}

// s3 is a client of the bucket.
func (k *kit) s3(t *testing.T, token string) *minio.Client {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(k.AWS, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(k.AccessKey, k.Secret, token), Region: awsRegion, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	require.NoError(t, err)
	return c
}

func (s signing) viewer(t *testing.T) {
	ctx := t.Context()
	k := *s.kit
	k.AccessKey, k.Secret = s.newAccessKey(t, map[string]any{"role": "viewer"})
	must(k.Greengrass().ListDeployments(ctx, &greengrassv2.ListDeploymentsInput{}))(t)
	must(k.IoT().ListThings(ctx, &iot.ListThingsInput{}))(t)
	_, err := k.Greengrass().CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: aws.String("arn:aws:iot:us-east-1:000000000000:thing/x")})
	failsAs[*types.AccessDeniedException](t, err)
	_, err = k.IoT().CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("viewers-thing")})
	require.Error(t, err)
	assert.Contains(t, []string{"UnauthorizedException", "AccessDeniedException"}, codeOf(t, err))

	_, err = s.s3(t, "").StatObject(ctx, "ggfleet", "nothing", minio.StatObjectOptions{})
	assert.Equal(t, "NoSuchKey", minio.ToErrorResponse(err).Code, "an admin's key gets in")
	for name, try := range map[string]func() error{
		"list": func() error { _, err := k.s3(t, "").ListBuckets(ctx); return err },
		"read": func() error {
			_, err := k.s3(t, "").StatObject(ctx, "ggfleet", "nothing", minio.StatObjectOptions{})
			return err
		},
		"write": func() error {
			_, err := k.s3(t, "").PutObject(ctx, "ggfleet", "x", bytes.NewReader([]byte("x")), 1, minio.PutObjectOptions{})
			return err
		},
	} {
		err := try()
		assert.Equal(t, http.StatusForbidden, minio.ToErrorResponse(err).StatusCode, "%s: %v", name, err)
	}
}

func (s signing) device(t *testing.T) {
	ctx := t.Context()
	leaf := s.CreateCores(t, "signing-core")[0].Certificate
	_, body := exchange(t, s.World, s.TLS(leaf), http.MethodGet, "/role-aliases/GGFleetTokenExchangeRoleAlias/credentials", "")
	var got struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	require.NoError(t, json.Unmarshal(body, &got), "%s", body)
	with := func(key, secret, token string) func(*greengrassv2.Options) {
		return func(o *greengrassv2.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: token}, nil
			})
		}
	}
	c := got.Credentials
	list := func(o func(*greengrassv2.Options)) error {
		_, err := s.Greengrass(o).ListComponents(ctx, &greengrassv2.ListComponentsInput{})
		return err
	}
	err := list(with(c.AccessKeyID, c.SecretAccessKey, c.SessionToken))
	denied := failsAs[*types.AccessDeniedException](t, err)
	assert.Contains(t, denied.ErrorMessage(), "signing-core")
	assert.Equal(t, "InvalidSignatureException", codeOf(t, list(with(c.AccessKeyID, c.SecretAccessKey+"x", c.SessionToken))))
	assert.Equal(t, "UnrecognizedClientException", codeOf(t, list(with(c.AccessKeyID, c.SecretAccessKey, ""))))
	assert.Equal(t, "UnrecognizedClientException", codeOf(t, list(with(c.AccessKeyID, c.SecretAccessKey, c.SessionToken[1:]))))
	assert.Equal(t, "UnrecognizedClientException", codeOf(t, list(with(s.AccessKey, s.Secret, c.SessionToken))), "of another key")

	k := *s.kit
	k.AccessKey, k.Secret = c.AccessKeyID, c.SecretAccessKey
	_, err = k.s3(t, c.SessionToken).ListBuckets(ctx)
	assert.Equal(t, "InvalidToken", minio.ToErrorResponse(err).Code, "%v", err)
}
