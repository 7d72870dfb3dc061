package generator

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/installer/config"
)

// aliasPattern is what a task may call a generator.
var aliasPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Registry returns the built-in generators together with those of entries, each
// ALIAS=URL. An error names the entry that is wrong.
func Registry(builtin map[string]config.Generator, entries []string) (config.Registry, error) {
	all := maps.Clone(builtin)
	urls, err := pairs(entries, "URL")
	if err != nil {
		return config.Registry{}, err
	}
	for alias, address := range urls {
		if _, ok := builtin[alias]; ok {
			return config.Registry{}, fmt.Errorf("generator %s is built in: choose another alias", alias)
		}
		if all[alias], err = New(Config{Alias: alias, URL: address}); err != nil {
			return config.Registry{}, err
		}
	}
	return config.NewRegistry(all), nil
}

// Overlays reads the overlays of generators, each ALIAS=FILE, for
// config.Builtin, which checks them.
func Overlays(entries []string) (map[string]json.RawMessage, error) {
	files, err := pairs(entries, "FILE")
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	for _, alias := range slices.Sorted(maps.Keys(files)) {
		raw, err := readFile(files[alias])
		if err != nil {
			return nil, fmt.Errorf("overlay of generator %s, file %s: %w", alias, files[alias], err)
		}
		out[alias] = raw
	}
	return out, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// pairs reads entries of the form ALIAS=VALUE.
func pairs(entries []string, value string) (map[string]string, error) {
	out := map[string]string{}
	for i, entry := range entries {
		alias, v, ok := strings.Cut(entry, "=")
		alias, v = strings.TrimSpace(alias), strings.TrimSpace(v)
		switch {
		case !ok || v == "":
			return nil, fmt.Errorf("generator entry %d must be ALIAS=%s", i+1, value) // not shown: a URL may hold a password
		case !aliasPattern.MatchString(alias):
			return nil, fmt.Errorf("generator entry %d: alias %q must be 1 to 64 letters, digits, _ and -", i+1, alias)
		case out[alias] != "":
			return nil, fmt.Errorf("generator entry %d: alias %s is there twice", i+1, alias)
		}
		out[alias] = v
	}
	return out, nil
}
