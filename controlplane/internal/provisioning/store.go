package provisioning

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

const (
	prefix = "templates/"
	suffix = ".json"
)

// Match is what a caller demands of the document that it changes: its ETag, or
// one of the constants.
type Match string

// Demands beside an ETag.
const (
	Any      Match = ""       // nothing
	IfExists Match = "*"      // there is one
	IfAbsent Match = "absent" // there is none
)

// Templates keeps template documents in an object store, as templates/<id>.json.
// Safe for concurrent use. Demands are kept among the callers of one Templates;
// an object store has no means to keep them between processes.
type Templates struct {
	objects object.Store
	mu      sync.Mutex // held from the look at the old document to the change
}

// NewTemplates returns the templates in objects.
func NewTemplates(objects object.Store) *Templates { return &Templates{objects: objects} }

func keyOf(id string) (string, error) {
	if err := names.CheckProvisioningTemplate(id); err != nil {
		return "", err
	}
	return prefix + id + suffix, nil
}

// Put stores document as template id, in place of what is there, and returns its
// ETag. A document that Parse refuses is not stored; fault.Stale if m does not hold.
func (t *Templates) Put(ctx context.Context, id string, document []byte, m Match) (etag string, err error) {
	key, err := keyOf(id)
	if err != nil {
		return "", err
	}
	if _, err := Parse(document); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.holds(ctx, id, m); err != nil {
		return "", err
	}
	if err := t.objects.Put(ctx, state.PutTemplate, key, bytes.NewReader(document), int64(len(document)), "application/json"); err != nil {
		return "", fmt.Errorf("put provisioning template %s: %w", id, err)
	}
	return etagOf(document), nil
}

// Delete removes template id. One that does not exist is fault.NotFound; fault.Stale
// if m does not hold. Tasks that still need it fail at those items.
func (t *Templates) Delete(ctx context.Context, id string, m Match) error {
	key, err := keyOf(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, _, err := t.Document(ctx, id); err != nil {
		return err
	}
	if err := t.holds(ctx, id, m); err != nil {
		return err
	}
	if err := t.objects.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete provisioning template %s: %w", id, err)
	}
	return nil
}

func (t *Templates) holds(ctx context.Context, id string, m Match) error {
	if m == Any {
		return nil
	}
	_, etag, err := t.Document(ctx, id)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	switch exists := err == nil; {
	case exists && (m == IfExists || m == Match(etag)), !exists && m == IfAbsent:
		return nil
	case exists:
		return fault.New(fault.Stale, "the provisioning template %s is another one now (ETag %s); read it again", id, etag)
	default:
		return fault.New(fault.Stale, "the provisioning template %s does not exist", id)
	}
}

// etagOf names the content of a document.
func etagOf(document []byte) string { return hashOf(string(document))[:32] }

// Get reads template id. One that does not exist is fault.NotFound with the text
// of the original, INVALID_PROVISIONING_TEMPLATE: <id>.
func (t *Templates) Get(ctx context.Context, id string) (*Template, error) {
	raw, _, err := t.Document(ctx, id)
	if err != nil {
		return nil, err
	}
	tpl, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("parse provisioning template %s: %w", id, err)
	}
	return tpl, nil
}

func noTemplate(id string) string { return "INVALID_PROVISIONING_TEMPLATE: " + id }

// Document reads the document of template id as it was put, and its ETag.
func (t *Templates) Document(ctx context.Context, id string) (document []byte, etag string, err error) {
	key, err := keyOf(id)
	if err != nil {
		return nil, "", err
	}
	r, _, err := t.objects.Open(ctx, key)
	if errors.Is(err, fault.NotFound) {
		return nil, "", fault.New(fault.NotFound, "%s", noTemplate(id))
	}
	if err != nil {
		return nil, "", fmt.Errorf("open provisioning template %s: %w", id, err)
	}
	defer func() { _ = r.Close() }()
	const most = 4 * MaxTemplate // a character has up to 4 bytes
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, "", fmt.Errorf("read provisioning template %s: %w", id, err)
	}
	return raw, etagOf(raw), nil
}

// TemplateInfo describes a stored template.
type TemplateInfo struct {
	ID        string
	Size      int64 // bytes
	UpdatedAt time.Time
}

// List returns the templates after the id after, in the order of their keys, at
// most count (0: all).
func (t *Templates) List(ctx context.Context, after string, count int) ([]TemplateInfo, error) {
	if after != "" {
		key, err := keyOf(after)
		if err != nil {
			return nil, err
		}
		after = key
	}
	list := []TemplateInfo{}
	for {
		limit := 0
		if count > 0 {
			limit = count - len(list)
		}
		objects, err := t.objects.List(ctx, prefix, after, limit)
		if err != nil {
			return nil, fmt.Errorf("list provisioning templates: %w", err)
		}
		for _, o := range objects {
			after = o.Key
			id, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), suffix)
			if ok && names.CheckProvisioningTemplate(id) == nil { // others put objects there too
				list = append(list, TemplateInfo{ID: id, Size: o.Size, UpdatedAt: o.ModTime})
			}
		}
		if limit == 0 || len(objects) < limit || len(list) == count {
			return list, nil
		}
	}
}
