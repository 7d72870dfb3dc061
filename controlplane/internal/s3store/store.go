package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

var _ object.Store = (*Store)(nil)

// Config says where the bucket is. All fields but the last two are required.
type Config struct {
	Endpoint  string // host or host:port, no scheme
	Secure    bool   // https
	Bucket    string
	Region    string // given, so that no request is spent on asking for it
	AccessKey string
	SecretKey logx.Secret

	PathStyle bool              // bucket in the path; else minio-go's choice by host
	Transport http.RoundTripper // nil: NewTransport()

	// local: requests never leave the machine, so neither signing each chunk
	// nor splitting large objects buys anything.
	local bool
}

// attempts is how often minio-go sends a request that fails for a passing
// reason. Few: callers retry with their own back-off and must hear soon.
const attempts = 3

// Store is an object.Store over S3. Make it with New; it needs no closing.
type Store struct {
	bucket string
	region string
	core   minio.Core
	local  bool
}

// New checks cfg and returns a store. It sends nothing: see EnsureBucket.
func New(cfg Config) (*Store, error) {
	for _, f := range []struct{ name, value string }{
		{"endpoint", cfg.Endpoint},
		{"bucket", cfg.Bucket},
		{"region", cfg.Region},
		{"access key", cfg.AccessKey},
		{"secret key", cfg.SecretKey.Reveal()},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("s3 store: the %s is empty", f.name)
		}
	}
	if cfg.Transport == nil {
		cfg.Transport = NewTransport()
	}
	lookup := minio.BucketLookupAuto
	if cfg.PathStyle {
		lookup = minio.BucketLookupPath
	}
	core, err := minio.NewCore(cfg.Endpoint, &minio.Options{
		Creds:        credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey.Reveal(), ""),
		Secure:       cfg.Secure,
		Transport:    cfg.Transport,
		Region:       cfg.Region,
		BucketLookup: lookup,
		MaxRetries:   attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("s3 store at %s: %w", cfg.Endpoint, err)
	}
	return &Store{bucket: cfg.Bucket, region: cfg.Region, core: *core, local: cfg.local}, nil
}

// NewTransport returns a transport for many small parallel requests to one
// host, with a bound on every wait that does not depend on an object's size.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:          128,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // objects come as they are stored
	}
}

// EnsureBucket makes the bucket if it is absent. Call it before the first use.
func (s *Store) EnsureBucket(ctx context.Context) error {
	ok, err := s.core.BucketExists(ctx, s.bucket)
	if err == nil && !ok {
		err = s.core.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: s.region})
		if minio.ToErrorResponse(err).Code == "BucketAlreadyOwnedByYou" { // another replica was faster
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("ensure bucket %s: %w", s.bucket, classify(ctx, err, ""))
	}
	return nil
}

// Bucket implements object.Store.
func (s *Store) Bucket() string { return s.bucket }

// Put implements object.Store.
func (s *Store) Put(ctx context.Context, step state.Step, key string, r io.Reader, size int64, contentType string) error {
	if err := object.CheckPut(step, key, size); err != nil {
		return err
	}
	_, err := s.core.Client.PutObject(ctx, s.bucket, key, r, size, minio.PutObjectOptions{
		ContentType:          contentType,
		DisableContentSha256: s.local,
		DisableMultipart:     s.local,
	})
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, classify(ctx, err, key))
	}
	return nil
}

// Open implements object.Store. One request: bytes flow from where it stands,
// and a seek to elsewhere asks again from there.
func (s *Store) Open(ctx context.Context, key string) (object.Reader, object.Info, error) {
	if object.CheckKey(key) != nil { // no such object can exist, and S3 would clean the path
		return nil, object.Info{}, fault.New(fault.NotFound, "no object %s", key)
	}
	body, oi, _, err := s.core.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, object.Info{}, fmt.Errorf("open object %s: %w", key, classify(ctx, err, key))
	}
	oi.Key = key
	return &reader{ctx: ctx, s: s, key: key, etag: oi.ETag, size: oi.Size, body: body}, info(oi), nil
}

// Stat implements object.Store.
func (s *Store) Stat(ctx context.Context, key string) (object.Info, error) {
	if object.CheckKey(key) != nil {
		return object.Info{}, fault.New(fault.NotFound, "no object %s", key)
	}
	oi, err := s.core.Client.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return object.Info{}, fmt.Errorf("stat object %s: %w", key, classify(ctx, err, key))
	}
	oi.Key = key
	return info(oi), nil
}

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if object.CheckKey(key) != nil {
		return nil
	}
	err := classify(ctx, s.core.Client.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}), key)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return fmt.Errorf("delete object %s: %w", key, err)
	}
	return nil
}

// List implements object.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	opts := minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true}
	if limit > 0 && limit < 1000 {
		opts.MaxKeys = limit
	}
	var out []object.Info
	for oi := range s.core.Client.ListObjectsIter(ctx, s.bucket, opts) {
		if oi.Err != nil {
			return nil, fmt.Errorf("list objects under %s: %w", prefix, classify(ctx, oi.Err, ""))
		}
		i := info(oi)
		i.ContentType = ""
		out = append(out, i)
		if len(out) == limit {
			break
		}
	}
	if err := ctx.Err(); err != nil { // the iterator ends without a word
		return nil, fmt.Errorf("list objects under %s: %w", prefix, err)
	}
	return out, nil
}

func info(oi minio.ObjectInfo) object.Info {
	return object.Info{Key: oi.Key, Size: oi.Size, ModTime: oi.LastModified, ContentType: oi.ContentType}
}
