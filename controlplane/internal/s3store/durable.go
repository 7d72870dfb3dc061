package s3store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// durable is the file backend of versitygw, which never syncs, with answers
// that wait until the change survives a power cut.
//
// An object's bytes are synced before the object gets its name, its folder
// after. Attributes and new parent folders come between the two; file systems
// with an ordered journal (ext4, xfs) have written them when the folder's sync
// returns.
type durable struct {
	*posix.Posix
	root    string // of the buckets
	region  string
	sidecar string // folder of the metadata files; empty: attributes
	fsync   bool
}

// PutObject implements backend.Backend.
func (d *durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	in.ContentEncoding = withoutChunks(in.ContentEncoding)
	if !d.fsync {
		return d.Posix.PutObject(ctx, in)
	}
	out, err := d.PutObjectWithPostFunc(ctx, in, (*os.File).Sync)
	if err != nil {
		return out, err
	}
	return out, d.syncName(*in.Bucket, *in.Key)
}

// CopyObject implements backend.Backend.
func (d *durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	out, err := d.Posix.CopyObject(ctx, in)
	if err != nil || !d.fsync {
		return out, err
	}
	return out, d.syncObject(*in.Bucket, *in.Key)
}

// CompleteMultipartUpload implements backend.Backend.
func (d *durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	out, version, err := d.Posix.CompleteMultipartUpload(ctx, in)
	if err != nil || !d.fsync {
		return out, version, err
	}
	return out, version, d.syncObject(*in.Bucket, *in.Key)
}

// DeleteObject implements backend.Backend.
func (d *durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	out, err := d.Posix.DeleteObject(ctx, in)
	if err != nil || !d.fsync {
		return out, err
	}
	return out, d.syncName(*in.Bucket, *in.Key)
}

// DeleteObjects implements backend.Backend.
func (d *durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	out, err := d.Posix.DeleteObjects(ctx, in)
	if err != nil || !d.fsync {
		return out, err
	}
	for _, o := range out.Deleted {
		if err := d.syncName(*in.Bucket, *o.Key); err != nil {
			return out, err
		}
	}
	return out, nil
}

// ListObjectsV2 implements backend.Backend. Asked for a folder that is not there,
// versitygw would go through every folder beside it: with a folder for each core,
// through the whole fleet.
func (d *durable) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	most := in.MaxKeys
	if folder := path.Dir(value(in.Prefix) + "x"); most != nil && filepath.IsLocal(folder) {
		if _, err := os.Stat(filepath.Join(d.root, value(in.Bucket), folder)); errors.Is(err, fs.ErrNotExist) {
			none := *in
			none.MaxKeys = new(int32) // asks for nothing, so it looks at nothing but the bucket
			in = &none
		}
	}
	out, err := d.Posix.ListObjectsV2(ctx, in)
	if err == nil {
		out.MaxKeys = most
	}
	return out, err
}

// withoutChunks takes aws-chunked off a Content-Encoding. It tells how the object
// travels here, with its checksum at the end; readers would take it for how it is.
func withoutChunks(encoding *string) *string {
	if encoding == nil {
		return nil
	}
	var kept []string
	for e := range strings.SplitSeq(*encoding, ",") {
		if e = strings.TrimSpace(e); e != "" && e != "aws-chunked" {
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	left := strings.Join(kept, ",")
	return &left
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// CreateBucket implements backend.Backend. Every key that is admitted may use every
// bucket, so one that is there is the caller's own; tools that make sure of their
// bucket count on what AWS answers then: success in us-east-1, elsewhere an error
// that says whose it is.
func (d *durable) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	err := d.Posix.CreateBucket(ctx, in, acl)
	if e, ok := errors.AsType[s3err.BucketError](err); ok && (e.Code == "BucketAlreadyExists" || e.Code == "BucketAlreadyOwnedByYou") {
		if d.region == "us-east-1" {
			return nil
		}
		return s3err.GetBucketErr(s3err.ErrBucketAlreadyOwnedByYou, *in.Bucket)
	}
	if err != nil || !d.fsync {
		return err
	}
	return errors.Join(syncPath(filepath.Join(d.root, *in.Bucket)), syncPath(d.root), d.syncMetadata(*in.Bucket))
}

// syncObject syncs an object's content, then its name.
func (d *durable) syncObject(bucket, key string) error {
	err := syncPath(filepath.Join(d.root, bucket, key))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // absent: deleted meanwhile
		return err
	}
	return d.syncName(bucket, key)
}

// syncName syncs the folder that key's file is or was in. Deleting the last
// object of a folder removes it; then the nearest folder above was changed.
func (d *durable) syncName(bucket, key string) error {
	for dir := filepath.Dir(filepath.Join(d.root, bucket, key)); len(dir) > len(d.root); dir = filepath.Dir(dir) {
		if err := syncPath(dir); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, d.syncMetadata(filepath.Join(bucket, key)))
		}
	}
	return syncPath(d.root)
}

// syncMetadata syncs the metadata files of an object or bucket, if metadata
// lies in files.
func (d *durable) syncMetadata(name string) error {
	if d.sidecar == "" {
		return nil
	}
	dir := filepath.Join(d.sidecar, name, "meta")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err := syncPath(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(err, syncPath(dir), syncPath(filepath.Dir(dir)))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
