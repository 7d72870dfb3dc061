package world

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
)

// Core is what an operator carries to a core device.
type Core struct {
	Name        string
	Certificate tls.Certificate
	CertPEM     []byte
	KeyPEM      []byte
	Config      []byte // installerConfig.yml
}

// NewCores is the body of POST /coreTasks that creates these cores.
func NewCores(names ...string) map[string]any {
	cores := make([]map[string]any, len(names))
	for i, name := range names {
		cores[i] = map[string]any{
			"name": name, "provisioningTemplate": "default", "provisioningParameters": map[string]string{"ThingName": name},
			"cdfProvisioningParameters": map[string]any{"certInfo": map[string]string{"country": "DE"}}, "configFileGenerator": "MANUAL_INSTALL",
		}
	}
	return map[string]any{"type": "Create", "coreVersion": "2.12.0", "cores": cores}
}

// CreateCores creates cores by a core task and fetches what they need.
func (w *World) CreateCores(t testing.TB, names ...string) []Core {
	t.Helper()
	a := w.Call(t, http.MethodPost, "/coreTasks", NewCores(names...), nil)
	task := w.WaitTask(t, a.Header.Get("Location"))
	require.Equal(t, "Success", task.Status, "%+v", task)
	cores := make([]Core, len(names))
	for i, name := range names {
		cores[i] = w.FetchCore(t, name)
	}
	return cores
}

// FetchCore gets a core's certificate and installer configuration from S3.
func (w *World) FetchCore(t testing.TB, name string) Core {
	t.Helper()
	var got struct {
		Artifacts map[string]struct{ Bucket, Key string } `json:"artifacts"`
	}
	w.Call(t, http.MethodGet, "/cores/"+url.PathEscape(name), nil, &got)
	c := Core{Name: name}
	object := func(kind string) []byte {
		at := got.Artifacts[kind]
		require.NotEmpty(t, at.Key, "core %s has no artifact %s", name, kind)
		b, err := w.Object(t.Context(), at.Bucket, at.Key)
		require.NoError(t, err)
		return b
	}
	c.Config = object("config")
	archive := object("certs")
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	require.NoError(t, err)
	c.CertPEM, c.KeyPEM = member(t, z, "certs/cert.pem"), member(t, z, "certs/private.key")
	c.Certificate, err = tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	require.NoError(t, err)
	return c
}

func member(t testing.TB, z *zip.Reader, name string) []byte {
	t.Helper()
	f, err := z.Open(name)
	require.NoError(t, err)
	b, err := io.ReadAll(io.LimitReader(f, maxAnswer))
	require.NoError(t, err)
	return b
}

// Files writes certificate and key into dir for programs that want files.
func (c Core) Files(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	name := filepath.Join(dir, strings.ReplaceAll(c.Name, ":", "_"))
	cert, key = name+".cert.pem", name+".key.pem"
	require.NoError(t, os.WriteFile(cert, c.CertPEM, 0o600))
	require.NoError(t, os.WriteFile(key, c.KeyPEM, 0o600))
	return cert, key
}

type objects struct{ client *minio.Client }

// openObjects makes an access key and a client of the AWS endpoint.
func (w *World) openObjects() (*objects, error) {
	ctx := context.Background() // once for the world, whichever test comes first
	a, err := w.Do(ctx, http.MethodPost, "/accessKeys", map[string]string{"description": "tests"})
	if err != nil || a.Status != http.StatusCreated {
		return nil, fmt.Errorf("making an access key: status %d: %s: %w", a.Status, a.Body, err)
	}
	var key AccessKey
	if err := json.Unmarshal(a.Body, &key); err != nil {
		return nil, err
	}
	c, err := minio.New(strings.TrimPrefix(w.AWS, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(key.ID, key.Secret, ""), Region: key.Region, BucketLookup: minio.BucketLookupPath,
	})
	return &objects{c}, err
}

// Object gets an object through the S3 API of the AWS endpoint.
func (w *World) Object(ctx context.Context, bucket, key string) ([]byte, error) {
	s3, err := w.s3()
	if err != nil {
		return nil, err
	}
	o, err := s3.client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting %s from bucket %s: %w", key, bucket, err)
	}
	defer func() { _ = o.Close() }()
	b, err := io.ReadAll(io.LimitReader(o, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("getting %s from bucket %s: %w", key, bucket, err)
	}
	return b, nil
}

// PutObject puts an object through the S3 API of the AWS endpoint.
func (w *World) PutObject(t testing.TB, bucket, key string, content []byte) {
	t.Helper()
	s3, err := w.s3()
	require.NoError(t, err)
	_, err = s3.client.PutObject(t.Context(), bucket, key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
	require.NoError(t, err)
}

// Presign makes a link that gets an object without a key for a while.
func (w *World) Presign(t testing.TB, bucket, key string, d time.Duration) string {
	t.Helper()
	s3, err := w.s3()
	require.NoError(t, err)
	link, err := s3.client.PresignedGetObject(t.Context(), bucket, key, d, nil)
	require.NoError(t, err)
	return link.String()
}

// AccessKey is a key for the AWS endpoint.
type AccessKey struct {
	ID     string `json:"accessKeyId"`
	Secret string `json:"secretAccessKey"`
	Region string `json:"region"`
}

// NewAccessKey makes an access key for clients of the AWS endpoint.
func (w *World) NewAccessKey(t testing.TB) AccessKey {
	t.Helper()
	var key AccessKey
	w.Call(t, http.MethodPost, "/accessKeys", map[string]string{"description": t.Name()}, &key)
	return key
}
