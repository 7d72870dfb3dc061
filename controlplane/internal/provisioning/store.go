package provisioning

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

const (
	prefix = "templates/"
	suffix = ".json"
)

// Templates keeps template documents in an object store, as templates/<id>.json.
type Templates struct{ objects object.Store }

// NewTemplates returns the templates in objects.
func NewTemplates(objects object.Store) *Templates { return &Templates{objects: objects} }

func keyOf(id string) (string, error) {
	if err := names.CheckProvisioningTemplate(id); err != nil {
		return "", err
	}
	return prefix + id + suffix, nil
}

// Put stores document as template id, in place of what is there. A document that
// Parse refuses is not stored.
func (t *Templates) Put(ctx context.Context, id string, document []byte) error {
	key, err := keyOf(id)
	if err != nil {
		return err
	}
	if _, err := Parse(document); err != nil {
		return err
	}
	if err := t.objects.Put(ctx, state.PutTemplate, key, bytes.NewReader(document), int64(len(document)), "application/json"); err != nil {
		return fmt.Errorf("put provisioning template %s: %w", id, err)
	}
	return nil
}

// Get reads template id. One that does not exist is fault.NotFound with the text
// of the original, INVALID_PROVISIONING_TEMPLATE: <id>.
func (t *Templates) Get(ctx context.Context, id string) (*Template, error) {
	raw, err := t.Document(ctx, id)
	if err != nil {
		return nil, err
	}
	tpl, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("parse provisioning template %s: %w", id, err)
	}
	return tpl, nil
}

// Document reads the document of template id as it was put.
func (t *Templates) Document(ctx context.Context, id string) ([]byte, error) {
	key, err := keyOf(id)
	if err != nil {
		return nil, err
	}
	r, _, err := t.objects.Open(ctx, key)
	if errors.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "INVALID_PROVISIONING_TEMPLATE: %s", id)
	}
	if err != nil {
		return nil, fmt.Errorf("open provisioning template %s: %w", id, err)
	}
	defer func() { _ = r.Close() }()
	const most = 4 * MaxTemplate // a character has up to 4 bytes
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("read provisioning template %s: %w", id, err)
	}
	return raw, nil
}

// List returns the ids of the templates after the id after, in the order of their
// keys, at most limit (0: no limit).
func (t *Templates) List(ctx context.Context, after string, limit int) ([]string, error) {
	if after != "" {
		key, err := keyOf(after)
		if err != nil {
			return nil, err
		}
		after = key
	}
	infos, err := t.objects.List(ctx, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list provisioning templates: %w", err)
	}
	var ids []string
	for _, i := range infos {
		ids = append(ids, strings.TrimSuffix(strings.TrimPrefix(i.Key, prefix), suffix))
	}
	return ids, nil
}
