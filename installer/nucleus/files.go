package nucleus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// filesName is the list of a version's files with their digests, in the form of
// sha256sum. It is written last, so a version that has it was unpacked whole.
const filesName = "files.sha256"

const maxList = 32 << 20 // bytes of the list

// digests are the files of a version by their path in it, in hex.
type digests map[string]string

// write stores the list in dir.
func (d digests) write(s *Site, dir string) error {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(d)) {
		fmt.Fprintf(&b, "%s  %s\n", d[name], name)
	}
	return durable.WriteFile(s.root, path.Join(dir, filesName), b.Bytes(), 0o644)
}

// Verify compares the files of an unpacked version with what they were when they
// were unpacked. One that is gone or different is an error of kind fault.Invalid that
// names it; what cannot be known, since an older agent has unpacked the version, is
// of kind fault.Unsupported. It reads all of the version.
func (s *Site) Verify(ctx context.Context, v Version) error {
	if err := v.Check(); err != nil {
		return err
	}
	list, err := s.ReadFile(path.Join(v.Dir(), filesName), maxList)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Unsupported, "it is not known how the files of %s %s were: an older agent has unpacked them", v.Name, v.Version)
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		want, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || !digestPattern.MatchString(want) || !local(name) {
			return fault.New(fault.Invalid, "%s of %s %s is damaged", filesName, v.Name, v.Version)
		}
		got, err := s.digest(ctx, path.Join(v.Dir(), name))
		if errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.Invalid, "%s of %s %s is gone", name, v.Name, v.Version)
		}
		if err != nil {
			return fmt.Errorf("looking at %s of %s %s: %w", name, v.Name, v.Version, err)
		}
		if got != want {
			return fault.New(fault.Invalid, "%s of %s %s is damaged: it is not what was unpacked", name, v.Name, v.Version)
		}
	}
	return nil
}

func (s *Site) digest(ctx context.Context, name string) (string, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, f}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
