package access

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// EnsureAdmin makes the file at path (absolute, its folder exists) hold a valid
// admin token under name, and nothing else, readable by its owner only. It
// reports whether it made a new one. Replicas on one store use different names,
// since each has a file of its own.
//
// The new token is in the store before it is in the file. A crash between the
// two leaves a file that does not match, like one that was lost or became
// unreadable: the next start makes another token and revokes this one.
func (t *Tokens) EnsureAdmin(ctx context.Context, name, path string) (created bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	rec, err := state.ReadOr[nameRecord](ctx, t.cfg.Store, namePrefix+name)
	if err != nil {
		return false, fmt.Errorf("read admin token: %w", err)
	}
	valid, err := t.isAdmin(ctx, rec.Value.Hash, readToken(path))
	if err != nil || valid {
		return false, err
	}

	token := newToken()
	b := state.NewBatch(state.StepSetup).If(namePrefix+name, rec.Rev)
	if rec.Rev != 0 {
		b.Delete(tokenPrefix + rec.Value.Hash)
	}
	t.put(b, name, Admin, token)
	if _, err := t.cfg.Store.Commit(ctx, b); err != nil {
		return false, fmt.Errorf("store admin token: %w", err)
	}
	t.forget(rec.Value.Hash)
	if err := durable.WriteFileAt(path, []byte(token), 0o600); err != nil {
		return false, fmt.Errorf("write admin token to %s: %w", path, err)
	}
	return true, nil
}

// isAdmin reports whether token is the one whose hash is stored, with its
// record there and the role admin.
func (t *Tokens) isAdmin(ctx context.Context, hash, token string) (bool, error) {
	if token == "" || subtle.ConstantTimeCompare([]byte(hash), []byte(hashOf(token))) == 0 {
		return false, nil
	}
	rec, err := state.Read[tokenRecord](ctx, t.cfg.Store, tokenPrefix+hash)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read admin token: %w", err)
	}
	return rec.Value.Role == Admin, nil
}

// readToken returns the token in the file at path, "" if there is none. A file
// that others can read counts as lost: its token may be known to them.
func readToken(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // read only
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 != 0 {
		return ""
	}
	raw, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
