package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var _ object.Store = (*Store)(nil)

// Store is an object.Store. Make it with New.
type Store struct {
	// Fail, if set, is asked before each operation ("put", "open", "stat",
	// "delete", "list"; key is the prefix for list); an error it returns is the
	// operation's and nothing happens. Set it before the store is shared.
	Fail func(op, key string) error

	bucket string
	mu     sync.Mutex // guards m
	m      map[string]stored
}

type stored struct {
	data []byte
	info object.Info
}

// New returns an empty store that calls itself bucket.
func New(bucket string) *Store { return &Store{bucket: bucket, m: map[string]stored{}} }

// Bucket implements object.Store.
func (s *Store) Bucket() string { return s.bucket }

func (s *Store) before(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Fail != nil {
		if err := s.Fail(op, key); err != nil {
			return fmt.Errorf("%s object %s: %w", op, key, err)
		}
	}
	return nil
}

// Put implements object.Store.
func (s *Store) Put(ctx context.Context, step state.Step, key string, r io.Reader, size int64, contentType string) error {
	if err := object.CheckPut(step, key, size); err != nil {
		return err
	}
	if err := s.before(ctx, "put", key); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	if int64(len(data)) != size {
		return fmt.Errorf("put object %s: the reader does not hold the %d bytes that were announced", key, size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[key] = stored{data: data, info: object.Info{Key: key, Size: size, ModTime: time.Now().UTC(), ContentType: contentType}}
	return nil
}

// Open implements object.Store.
func (s *Store) Open(ctx context.Context, key string) (object.Reader, object.Info, error) {
	if err := s.before(ctx, "open", key); err != nil {
		return nil, object.Info{}, err
	}
	o, err := s.get(key)
	if err != nil {
		return nil, object.Info{}, err
	}
	return reader{bytes.NewReader(o.data)}, o.info, nil
}

// Stat implements object.Store.
func (s *Store) Stat(ctx context.Context, key string) (object.Info, error) {
	if err := s.before(ctx, "stat", key); err != nil {
		return object.Info{}, err
	}
	o, err := s.get(key)
	return o.info, err
}

func (s *Store) get(key string) (stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.m[key]
	if !ok {
		return stored{}, fault.New(fault.NotFound, "no object %s", key)
	}
	return o, nil
}

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.before(ctx, "delete", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, key)
	return nil
}

// List implements object.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	if err := s.before(ctx, "list", prefix); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []object.Info
	for _, key := range slices.Sorted(maps.Keys(s.m)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		info := s.m[key].info
		info.ContentType = "" // S3 does not list it
		out = append(out, info)
		if len(out) == limit {
			break
		}
	}
	return out, nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }
