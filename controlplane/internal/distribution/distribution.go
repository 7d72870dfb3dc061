// Package distribution keeps the nucleus archives that the control plane offers
// to its agents. An archive lies in the artifact store under its digest; a record
// names it, its runtime and the platform that it is built for. Of each runtime one
// is current for each platform; a core may be pinned to a version of its own.
//
// What an archive holds is read by installer/nucleus. The package does not know
// which cores there are.
package distribution

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
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

// simulated is the runtime that stands in for the others.
const simulated = "simulated"

const (
	prefix       = state.Root + "distribution/"
	recordPrefix = prefix + "record/"
	slotPrefix   = prefix + "current/"
	pinPrefix    = prefix + "pin/"
)

// recordKey of a distribution for any platform ends with the version.
func recordKey(name, version, platform string) string {
	key := recordPrefix + name + "/" + version
	if platform != "" {
		key += "/" + platform
	}
	return key
}

// Record is a stored archive.
type Record struct {
	protocol.Distribution
	CreatedAt time.Time `json:"createdAt"`
	Current   bool      `json:"-"`
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

// Upload is what is said of an archive that is put. Name and Version may be empty:
// they are found in the archive. What is said must be what is found.
type Upload struct {
	Name     string
	Version  string
	Format   string // tar.gz, zip, deb or rpm
	Platform string // GOOS/GOARCH; empty: runs on any, or the archive itself says
}

var platformPattern = regexp.MustCompile(`^[a-z0-9]{1,16}/[a-z0-9]{1,16}$`)

func (u Upload) check() error {
	if u.Name != "" {
		if err := names.CheckComponent(u.Name); err != nil {
			return fault.Field("name", "%s", fault.Message(err))
		}
	}
	if u.Version != "" && names.CheckComponent(u.Version) != nil {
		return fault.Field("version", "%q is not a version", u.Version)
	}
	if !slices.Contains([]string{"tar.gz", "zip", "deb", "rpm"}, u.Format) {
		return fault.Field("format", "is %q, want tar.gz, zip, deb or rpm", u.Format)
	}
	if u.Platform != "" && !platformPattern.MatchString(u.Platform) {
		return fault.Field("platform", "%q is not an operating system and architecture as in linux/arm64", u.Platform)
	}
	return nil
}

// Put stores an archive. The same name, version and platform again replaces what
// was there only if the bytes are equal, else it is fault.Exists: agents tell
// versions apart by name. The first archive of a runtime and platform becomes
// current.
func (s *Store) Put(ctx context.Context, u Upload, r io.Reader) (Record, error) {
	if err := u.check(); err != nil {
		return Record{}, err
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
	m, platform, err := inspect(f, u)
	if err != nil {
		return Record{}, err
	}
	rec := Record{
		Distribution: protocol.Distribution{
			Name: m.Name, Version: m.Version, Digest: hex.EncodeToString(h.Sum(nil)), Size: n, Format: u.Format, Runtime: m.Runtime, Platform: platform,
		},
		CreatedAt: s.now().UTC(),
	}
	old, err := s.stored(ctx, rec)
	if err != nil || old != nil {
		return *cmp.Or(old, &Record{}), err
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
		if old, err := s.stored(ctx, rec); err != nil || old != nil {
			return *cmp.Or(old, &Record{}), err
		}
	}
	if err != nil {
		return Record{}, fmt.Errorf("store distribution %s %s: %w", rec.Name, rec.Version, err)
	}
	return rec, nil
}

// stored returns the record of the same archive, nil if there is none, or
// fault.Exists if the name is another archive's.
func (s *Store) stored(ctx context.Context, rec Record) (*Record, error) {
	old, err := state.ReadOr[Record](ctx, s.records, recordKey(rec.Name, rec.Version, rec.Platform))
	if err != nil || old.Rev == 0 {
		return nil, err
	}
	if old.Value.Digest != rec.Digest {
		return nil, fault.New(fault.Exists, "distribution %s %s exists with other content; give the new one another version", rec.Name, rec.Version)
	}
	return &old.Value, nil
}

// record commits rec, as the current one of its slot if that is free.
func (s *Store) record(ctx context.Context, rec Record) error {
	slot := slotKey(rec.Runtime, rec.Platform)
	cur, err := state.ReadOr[choice](ctx, s.records, slot)
	if err != nil {
		return err
	}
	key := recordKey(rec.Name, rec.Version, rec.Platform)
	b := state.NewBatch(state.StepDistribution).If(key, 0).Put(key, rec)
	if cur.Rev == 0 {
		b.If(slot, 0).Put(slot, choice{rec.Name, rec.Version})
	}
	_, err = s.records.Commit(ctx, b)
	return err
}

func (s *Store) key(digest string) string { return s.prefix + digest }

// Get returns the record of a version for platform, "" for any, or fault.NotFound.
func (s *Store) Get(ctx context.Context, name, version, platform string) (Record, error) {
	r, err := state.Read[Record](ctx, s.records, recordKey(name, version, platform))
	if errors.Is(err, fault.NotFound) || strings.Contains(name+version, "/") {
		return Record{}, missing(name, version, platform)
	}
	return r.Value, err
}

// List returns all archives by name, version and platform.
func (s *Store) List(ctx context.Context) ([]Record, error) {
	current := map[string]choice{}
	err := state.All(ctx, s.records, slotPrefix, func(key string, r state.Record[choice]) error {
		current[key] = r.Value
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []Record
	err = state.All(ctx, s.records, recordPrefix, func(_ string, r state.Record[Record]) error {
		r.Value.Current = current[slotKey(r.Value.Runtime, r.Value.Platform)] == choice{r.Value.Name, r.Value.Version}
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
