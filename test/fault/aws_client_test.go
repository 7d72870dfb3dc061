package fault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const (
	awsRegion = "us-east-1"
	awsARN    = "arn:aws:iot:" + awsRegion + ":000000000000:"
)

// awsUser is who works with AWS's own SDK on a control plane that may be killed at
// any moment: a call that was not answered is made again with the same input, the
// clientToken in it, and nothing else.
type awsUser struct {
	*story
	gg  *greengrassv2.Client
	iot *iot.Client
	s3  *minio.Client
}

// newAWSUser gets an access key from the running control plane.
func newAWSUser(s *story) *awsUser {
	s.t.Helper()
	var key world.AccessKey
	a := s.post("/accessKeys", "aws-user", object{"description": "fault test"}, http.StatusCreated)
	require.NoError(s.t, json.Unmarshal(a.Body, &key))
	return userWith(s, key)
}

func userWith(s *story, key world.AccessKey) *awsUser {
	s.t.Helper()
	creds := credentials.NewStaticCredentialsProvider(key.ID, key.Secret, "")
	u := &awsUser{story: s}
	// No retries but our own: each one is to be seen.
	u.gg = greengrassv2.New(greengrassv2.Options{Region: awsRegion, BaseEndpoint: aws.String(s.w.AWS), Credentials: creds, HTTPClient: s.client, RetryMaxAttempts: 1})
	u.iot = iot.New(iot.Options{Region: awsRegion, BaseEndpoint: aws.String(s.w.AWS), Credentials: creds, HTTPClient: s.client, RetryMaxAttempts: 1})
	var err error
	u.s3, err = minio.New(strings.TrimPrefix(s.w.AWS, "http://"), &minio.Options{
		Creds: miniocreds.NewStaticV4(key.ID, key.Secret, ""), Region: awsRegion, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	require.NoError(s.t, err)
	return u
}

// call makes a call until it is answered. A kill may have taken the answer of a
// call that was carried out: only then may it be refused with one of the codes,
// and there is no answer.
func call[In, Out, O any](u *awsUser, op func(context.Context, *In, ...func(*O)) (*Out, error), in *In, codes ...string) *Out {
	u.t.Helper()
	before := u.kills
	for {
		out, err := op(u.t.Context(), in)
		if err == nil {
			return out
		}
		var refused smithy.APIError
		if !errors.As(err, &refused) {
			u.revive(err)
			continue
		}
		require.True(u.t, u.kills > before && slices.Contains(codes, refused.ErrorCode()), "after %d kills in the call: %v", u.kills-before, err)
		return nil
	}
}

// upload puts an object through the S3 API.
func (u *awsUser) upload(key string, content []byte) {
	u.t.Helper()
	for {
		_, err := u.s3.PutObject(u.t.Context(), "ggfleet", key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
		if err == nil {
			return
		}
		u.revive(err)
	}
}
