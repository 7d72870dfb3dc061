package selfupdate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// builtInKeys are the public keys that this binary trusts by itself, with commas
// between: -ldflags "-X github.com/ggfleet/ggfleet/agent/internal/selfupdate.builtInKeys=RWQ…".
var builtInKeys string //nolint:gochecknoglobals // the linker sets it

// keysName is the file of keys in the agent's folder.
const keysName = "update-keys"

// systemKeys is the file of keys of the machine, which a package or a
// configuration management puts there.
const systemKeys = "/etc/ggfleet-agent/update-keys"

// TrustedKey is a key and where it comes from.
type TrustedKey struct {
	signed.Key
	Source string // built in, or a file
}

// Keys returns the keys that the agent in root trusts. A file that cannot be
// read is an error; the keys of the others are returned beside it.
func Keys(root string) ([]TrustedKey, error) {
	var out []TrustedKey
	var errs []error
	add := func(source string, keys signed.Keys, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("update keys, %s: %w", source, err))
		}
		for _, k := range keys {
			if !slices.ContainsFunc(out, func(t TrustedKey) bool { return t.String() == k.String() }) {
				out = append(out, TrustedKey{k, source})
			}
		}
	}
	keys, err := signed.ReadKeys(strings.NewReader(strings.ReplaceAll(builtInKeys, ",", "\n")))
	add("built in", keys, err)
	files := []string{filepath.Join(root, "agent", keysName)}
	if runtime.GOOS != "windows" {
		files = append(files, systemKeys)
	}
	for _, file := range files {
		keys, err := readKeyFile(file)
		add(file, keys, err)
	}
	return out, errors.Join(errs...)
}

func readKeyFile(file string) (signed.Keys, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return signed.ReadKeys(f)
}

// AddKey makes the agent in root trust a public key, given as text or as the
// name of a file that holds it. Done again, it changes nothing.
func AddKey(root, key string) (signed.Key, error) {
	if b, err := os.ReadFile(key); err == nil && len(b) <= signed.MaxSignature {
		key = string(b)
	}
	k, err := signed.ParseKey(key)
	if err != nil {
		return k, fmt.Errorf("%w; give the public key itself, or the file that holds it", err)
	}
	return k, changeKeys(root, func(keys signed.Keys) (signed.Keys, error) { return keys.With(k), nil })
}

// RemoveKey takes a key of AddKey away, named by its id.
func RemoveKey(root, id string) error {
	id = strings.ToUpper(id)
	return changeKeys(root, func(keys signed.Keys) (signed.Keys, error) {
		left := slices.DeleteFunc(slices.Clone(keys), func(k signed.Key) bool { return k.ID == id })
		if len(left) < len(keys) {
			return left, nil
		}
		all, err := Keys(root)
		for _, k := range all {
			if k.ID == id {
				return nil, fault.New(fault.Unsupported, "key %s comes from elsewhere (%s) and must be removed there", id, k.Source)
			}
		}
		return nil, errors.Join(fault.New(fault.NotFound, "no key has the id %s; 'ggfleet-agent update-key list' shows them", id), err)
	})
}

func changeKeys(root string, change func(signed.Keys) (signed.Keys, error)) error {
	dir := filepath.Join(root, "agent")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, keysName)
	keys, err := readKeyFile(file)
	if err != nil {
		return err
	}
	if keys, err = change(keys); err != nil {
		return err
	}
	text := "# Releases of the agent signed with one of these keys may replace it.\n"
	for _, k := range keys {
		text += "# " + k.ID + "\n" + k.String() + "\n"
	}
	for range 3 {
		// An agent that starts now clears up what looks like an interrupted write.
		if err = durable.WriteFileAt(file, []byte(text), 0o600); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func plain(keys []TrustedKey) (out signed.Keys) {
	for _, k := range keys {
		out = append(out, k.Key)
	}
	return out
}
