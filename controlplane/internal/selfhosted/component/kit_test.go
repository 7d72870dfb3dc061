package component_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// over is a replica whose objects are in o.
func (f *fixture) over(t testing.TB, o object.Store) *component.Service {
	cfg := f.config(t)
	cfg.Objects = o
	s, err := component.New(cfg)
	require.NoError(t, err)
	return s
}

// limited is a replica with quotas.
func (f *fixture) limited(t testing.TB, components, versions int) *component.Service {
	cfg := f.config(t)
	cfg.MaxComponents, cfg.MaxVersions = components, versions
	s, err := component.New(cfg)
	require.NoError(t, err)
	return s
}

// zeros is a store some of whose objects are as large as they say and hold
// nothing but zeros; what is put is read and thrown away.
type zeros struct {
	*objects.Store
	sizes map[string]int64
	read  atomic.Int64
}

func (z *zeros) Stat(ctx context.Context, key string) (object.Info, error) {
	info, err := z.Store.Stat(ctx, key)
	if size, ok := z.sizes[key]; ok {
		info.Size = size
	}
	return info, err
}

func (z *zeros) Open(ctx context.Context, key string) (object.Reader, object.Info, error) {
	info, err := z.Stat(ctx, key)
	return &stream{left: info.Size, read: &z.read}, info, err
}

var errDiscarded = errors.New("read, and thrown away")

func (z *zeros) Put(_ context.Context, _ state.Step, _ string, r io.Reader, _ int64, _ string) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return errDiscarded
}

// stream is left zeros.
type stream struct {
	left int64
	read *atomic.Int64
}

func (s *stream) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), s.left))
	clear(p[:n])
	s.left -= int64(n)
	if s.read != nil {
		s.read.Add(int64(n))
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (*stream) Close() error { return nil }

func (*stream) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }
