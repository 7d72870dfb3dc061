package s3store

import (
	"context"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"
)

// reader reads one object. The context of Open bounds its whole life.
type reader struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other place for it
	s    *Store
	key  string
	etag string
	size int64

	at   int64         // where the caller stands
	body io.ReadCloser // stands at `at`; nil after a seek
}

// Read implements io.Reader. If the object was replaced since Open, a read
// after a seek fails: two versions are never mixed.
func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil {
		opts := minio.GetObjectOptions{}
		err := opts.SetRange(r.at, r.size-1)
		if err == nil {
			err = opts.SetMatchETag(r.etag)
		}
		if err != nil {
			return 0, fmt.Errorf("read object %s from %d: %w", r.key, r.at, err)
		}
		body, _, _, err := r.s.core.GetObject(r.ctx, r.s.bucket, r.key, opts)
		if err != nil {
			return 0, fmt.Errorf("read object %s from %d: %w", r.key, r.at, classify(r.ctx, err, r.key))
		}
		r.body = body
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	if err == io.EOF && r.at < r.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read object %s at %d: %w", r.key, r.at, classify(r.ctx, err, r.key))
	}
	return n, err
}

// Seek implements io.Seeker; it sends nothing.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return r.at, fmt.Errorf("seek object %s: position %d is before the start", r.key, offset)
	}
	if offset != r.at {
		if err := r.Close(); err != nil {
			return r.at, err
		}
		r.at = offset
	}
	return r.at, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}
