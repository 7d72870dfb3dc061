// Package distribution keeps the nucleus archives that the control plane offers
// to its agents. An archive lies in the artifact store under its digest; a record
// names it; one of them is current and is what agents install.
//
// It does not look inside an archive: that is the agent's, and installer/nucleus
// says how one is made.
package distribution

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// MaxSize is the largest archive, in bytes.
const MaxSize = 1 << 30

const (
	prefix       = state.Root + "distribution/"
	recordPrefix = prefix + "record/"
	currentKey   = prefix + "current"
)

func recordKey(name, version string) string { return recordPrefix + name + "/" + version }

// Record is a stored archive.
type Record struct {
	protocol.Distribution
	CreatedAt time.Time `json:"createdAt"`
	Current   bool      `json:"-"`
}

type current struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Store keeps archives. Safe for concurrent use.
type Store struct {
	records state.Store
	objects object.Store
	prefix  string
	now     func() time.Time
}

// New returns a Store that keeps archives under keyPrefix.
func New(records state.Store, objects object.Store, keyPrefix string, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{records: records, objects: objects, prefix: keyPrefix, now: now}
}

// Put stores an archive. The same name and version again replaces what was
// there only if the bytes are equal, else it is fault.Exists: agents tell
// versions apart by name. The first archive becomes the current one.
func (s *Store) Put(ctx context.Context, name, version, format string, r io.Reader) (Record, error) {
	if err := names.CheckComponent(name); err != nil {
		return Record{}, fault.Field("name", "%s", fault.Message(err))
	}
	if err := names.CheckComponent(version); err != nil {
		return Record{}, fault.Field("version", "%q is not a version", version)
	}
	if format != "tar.gz" && format != "zip" {
		return Record{}, fault.Field("format", "is %q, want tar.gz or zip", format)
	}
	f, err := os.CreateTemp("", "ggfleet-dist-*")
	if err != nil {
		return Record{}, fmt.Errorf("spool archive: %w", err)
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, MaxSize+1))
	if err != nil {
		return Record{}, fmt.Errorf("spool archive: %w", err)
	}
	if n == 0 {
		return Record{}, fault.New(fault.Invalid, "the archive is empty")
	}
	if n > MaxSize {
		return Record{}, fault.New(fault.TooLarge, "the archive is over the limit of %d bytes", MaxSize)
	}
	if err := checkArchive(f, n, format); err != nil {
		return Record{}, err
	}
	rec := Record{
		Distribution: protocol.Distribution{Name: name, Version: version, Digest: hex.EncodeToString(h.Sum(nil)), Size: n, Format: format},
		CreatedAt:    s.now().UTC(),
	}
	old, err := state.ReadOr[Record](ctx, s.records, recordKey(name, version))
	if err != nil {
		return Record{}, err
	}
	if old.Rev != 0 {
		if old.Value.Digest != rec.Digest {
			return Record{}, fault.New(fault.Exists, "distribution %s %s exists with other content; give the new one another version", name, version)
		}
		return old.Value, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Record{}, fmt.Errorf("spool archive: %w", err)
	}
	if err := s.objects.Put(ctx, state.PutDistribution, s.key(rec.Digest), f, n, "application/octet-stream"); err != nil {
		return Record{}, fmt.Errorf("store archive: %w", err)
	}
	for range 16 {
		if err = s.record(ctx, rec); !errors.Is(err, fault.Conflict) {
			break
		}
		// Another archive became the first one, or this one was put twice at once.
		if old, err := state.ReadOr[Record](ctx, s.records, recordKey(name, version)); err != nil || old.Value.Digest == rec.Digest {
			return old.Value, err
		}
	}
	if err != nil {
		return Record{}, fmt.Errorf("store distribution %s %s: %w", name, version, err)
	}
	return rec, nil
}

// checkArchive looks whether f begins as an archive of its format does, so that a
// mistaken upload is refused here and not by every agent.
func checkArchive(f *os.File, size int64, format string) error {
	var err error
	if format == "zip" {
		_, err = zip.NewReader(f, size)
	} else if _, err = f.Seek(0, io.SeekStart); err == nil {
		var z *gzip.Reader
		if z, err = gzip.NewReader(f); err == nil {
			_, err = tar.NewReader(z).Next()
		}
	}
	if err != nil {
		return fault.New(fault.Invalid, "the archive is no %s: %v", format, err)
	}
	return nil
}

// record commits rec, as the current one if there is none.
func (s *Store) record(ctx context.Context, rec Record) error {
	cur, err := state.ReadOr[current](ctx, s.records, currentKey)
	if err != nil {
		return err
	}
	key := recordKey(rec.Name, rec.Version)
	b := state.NewBatch(state.StepComponent).If(key, 0).Put(key, rec)
	if cur.Rev == 0 {
		b.If(currentKey, 0).Put(currentKey, current{rec.Name, rec.Version})
	}
	_, err = s.records.Commit(ctx, b)
	return err
}

func (s *Store) key(digest string) string { return s.prefix + digest }

// Activate makes a stored archive the one that agents install.
func (s *Store) Activate(ctx context.Context, name, version string) error {
	if _, err := s.Get(ctx, name, version); err != nil {
		return err
	}
	_, err := s.records.Commit(ctx, state.NewBatch(state.StepComponent).Put(currentKey, current{name, version}))
	return err
}

// Get returns a record, or fault.NotFound.
func (s *Store) Get(ctx context.Context, name, version string) (Record, error) {
	r, err := state.Read[Record](ctx, s.records, recordKey(name, version))
	if errors.Is(err, fault.NotFound) || strings.Contains(name+version, "/") {
		return Record{}, fault.New(fault.NotFound, "distribution %s %s is not stored", name, version)
	}
	return r.Value, err
}

// Current returns the archive that agents install, or nil if there is none.
func (s *Store) Current(ctx context.Context) (*protocol.Distribution, error) {
	c, err := state.ReadOr[current](ctx, s.records, currentKey)
	if err != nil || c.Rev == 0 {
		return nil, err
	}
	r, err := s.Get(ctx, c.Value.Name, c.Value.Version)
	if err != nil {
		return nil, err
	}
	return &r.Distribution, nil
}

// List returns all archives by name and version.
func (s *Store) List(ctx context.Context) ([]Record, error) {
	c, err := state.ReadOr[current](ctx, s.records, currentKey)
	if err != nil {
		return nil, err
	}
	var out []Record
	err = state.All(ctx, s.records, recordPrefix, func(_ string, r state.Record[Record]) error {
		r.Value.Current = c.Value == current{r.Value.Name, r.Value.Version}
		out = append(out, r.Value)
		return nil
	})
	return out, err
}

// Open returns the archive with this digest, or fault.NotFound. The caller
// closes the reader.
func (s *Store) Open(ctx context.Context, digest string) (object.Reader, object.Info, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size {
		return nil, object.Info{}, fault.New(fault.NotFound, "no archive has digest %q", digest)
	}
	return s.objects.Open(ctx, s.key(digest))
}
