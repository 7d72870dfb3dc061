package s3store

import (
	"context"
	"errors"
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

	at     int64         // where the caller stands
	body   io.ReadCloser // nil: none is open
	bodyAt int64         // where body stands
}

// Read implements io.Reader. If the object was replaced since Open, a read that
// must ask for it again fails: two versions are never mixed.
func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil || r.bodyAt != r.at {
		if err := r.reopen(); err != nil {
			return 0, fmt.Errorf("read object %s from %d: %w", r.key, r.at, err)
		}
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	r.bodyAt = r.at
	if errors.Is(err, io.EOF) && r.at < r.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read object %s at %d: %w", r.key, r.at, classify(r.ctx, err, r.key))
	}
	return n, err
}

// reopen asks for the object from r.at on.
func (r *reader) reopen() error {
	if err := r.Close(); err != nil {
		return err
	}
	opts := minio.GetObjectOptions{}
	if err := opts.SetRange(r.at, r.size-1); err != nil {
		return err
	}
	if err := opts.SetMatchETag(r.etag); err != nil {
		return err
	}
	body, _, _, err := r.s.core.GetObject(r.ctx, r.s.bucket, r.key, opts)
	if err != nil {
		return classify(r.ctx, err, r.key)
	}
	r.body, r.bodyAt = body, r.at
	return nil
}

// Seek implements io.Seeker. It sends nothing, and there and back (net/http
// asks for the size so) costs nothing.
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
	r.at = offset
	return offset, nil
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
