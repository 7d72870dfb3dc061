package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// pairs reads NAME=VALUE arguments of a flag. The result is never nil.
func pairs(flag string, args []string) (map[string]string, error) {
	v := make(map[string]string, len(args))
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, failure(ExitUsage, "%s %q: want NAME=VALUE", flag, a)
		}
		if _, twice := v[name]; twice {
			return nil, failure(ExitUsage, "%s: %s is given twice", flag, name)
		}
		v[name] = value
	}
	return v, nil
}

// input opens a file, or standard input for "-".
func input(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, failure(ExitUsage, "%w", err)
	}
	return f, nil
}

// maxInput bounds a file that is sent as part of a request, in bytes.
const maxInput = 16 << 20

// contents reads a file whole, or standard input for "-".
func contents(path string) ([]byte, error) {
	f, err := input(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err != nil {
		return nil, failure(ExitUsage, "reading %s: %w", path, err)
	}
	if len(b) > maxInput {
		return nil, failure(ExitUsage, "%s is larger than the server takes: %d bytes at most", path, maxInput)
	}
	return b, nil
}

// jsonFile reads a file that a flag names.
func jsonFile(flag, path string) (api.RawJSON, error) {
	b, err := contents(path)
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return nil, failure(ExitUsage, "%s: %s holds no JSON", flag, path)
	}
	return b, nil
}
