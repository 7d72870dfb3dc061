package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxKeyFile is far more than a key in base64 with a line end.
const maxKeyFile = 1024

// OpenFile returns the Sealer with the key in the file at path: KeySize bytes
// in base64. If there is no file, it makes one with a random key, mode 0600,
// that survives a crash; of several processes that do so at once, all get the
// same key. A file that others may read or write is refused with fault.Denied.
func OpenFile(path string) (Sealer, error) {
	raw, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return nil, fmt.Errorf("make sealing key: %w", err)
		}
		raw, err = readKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(key, raw)
	if err != nil || n != KeySize {
		return nil, fault.New(fault.Invalid, "sealing key %s does not hold %d bytes in base64: put the right file back; without it, what was sealed is lost", path, KeySize)
	}
	return New(key[:n])
}

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Denied, "sealing key %s has mode %04o, so others can use it: chmod 0600 %s", path, info.Mode().Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return bytes.TrimSpace(raw), err
}

// makeKey writes a new key beside path and links it there: whoever finds the
// file finds the whole key, and a file that is there stays.
func makeKey(path string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a leftover holds a key that nobody uses
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(key))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
