package s3store_test

import (
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
)

func TestObjectsAreCopiedWholeAndInParts(t *testing.T) {
	e := startEndpoint(t)
	c, ctx, bucket := e.sdk(true, userKey, userSecret), t.Context(), aws.String("artifacts")
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("copy/from"), Body: strings.NewReader("0123456789"), Metadata: map[string]string{"line": "7"}})
	require.NoError(t, err)
	content := func(key string) string {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String(key)})
		require.NoError(t, err)
		defer out.Body.Close()
		raw, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		return string(raw)
	}

	_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy/to"), CopySource: aws.String("artifacts/copy/from")})
	require.NoError(t, err)
	assert.Equal(t, "0123456789", content("copy/to"))
	head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("copy/to")})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"line": "7"}, head.Metadata)

	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("copy/part")})
	require.NoError(t, err)
	part, err := c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: bucket, Key: aws.String("copy/part"), UploadId: up.UploadId, PartNumber: aws.Int32(1),
		CopySource: aws.String("artifacts/copy/from"), CopySourceRange: aws.String("bytes=2-4"),
	})
	require.NoError(t, err)
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: aws.String("copy/part"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.CopyPartResult.ETag}}},
	})
	require.NoError(t, err)
	assert.Equal(t, "234", content("copy/part"))
}

// Tools that publish make sure of their bucket first.
func TestABucketThatIsThereIsTheCallersOwn(t *testing.T) {
	for where, want := range map[string]string{"us-east-1": "", "eu-central-1": "BucketAlreadyOwnedByYou"} {
		t.Run(where, func(t *testing.T) {
			c := startEndpoint(t, func(c *s3store.EmbeddedConfig) { c.Region = where }).sdk(true, userKey, userSecret)
			in := &s3.CreateBucketInput{Bucket: aws.String("artifacts")}
			if where != "us-east-1" {
				in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(where)}
			}
			_, err := c.CreateBucket(t.Context(), in, func(o *s3.Options) { o.Region = where })
			if want == "" {
				require.NoError(t, err)
				return
			}
			assert.Equal(t, want, code(err))
		})
	}
}

// Over TLS, and with a body that cannot be read twice, SDKs send objects in chunks
// with the checksum at the end.
func TestWhatReadersGetIsWhatWasStored(t *testing.T) {
	e := startEndpoint(t)
	c, ctx, bucket := e.sdk(true, userKey, userSecret), t.Context(), aws.String("artifacts")
	for stored, sent := range map[string]string{"": "aws-chunked", "gzip": "gzip,aws-chunked", "br": "br"} {
		in := &s3.PutObjectInput{Bucket: bucket, Key: aws.String("enc/x" + stored), Body: strings.NewReader("x"), ContentEncoding: aws.String(sent), Metadata: map[string]string{"made-by": "a saw"}}
		_, err := c.PutObject(ctx, in)
		require.NoError(t, err)
		get, err := s3.NewPresignClient(c).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: in.Key})
		require.NoError(t, err)
		conn, err := e.transport.DialContext(ctx, "tcp", e.host())
		require.NoError(t, err)
		_, path, _ := strings.Cut(get.URL, e.host())
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+e.host()+"\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		assert.Contains(t, string(answer), "200 OK")
		assert.NotContains(t, string(answer), "aws-chunked")
		if stored != "" {
			assert.Contains(t, string(answer), "Content-Encoding: "+stored+"\r\n")
		}
		assert.Contains(t, string(answer), "x-amz-meta-made-by: a saw\r\n", "the name in lower case")
	}
}
