package patching

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

// gone is the intent to remove what belongs to a template id, unless the
// template is made: a creation writes it first, its last commit takes it back.
type gone struct {
	At time.Time `json:"at"`
}

// CreateTemplate stores version 1 of a new template; fault.Exists if the name is
// taken.
func (s *Service) CreateTemplate(ctx context.Context, n NewTemplate) (Template, error) {
	now := s.stamp()
	t := Template{
		ID: names.NewUUID(), Name: n.Name, Version: 1, PatchType: n.PatchType, PlaybookName: n.PlaybookName, Description: n.Description,
		Enabled: n.Enabled == nil || *n.Enabled, ExtraVars: n.ExtraVars, Options: n.Options, CreatedAt: now, UpdatedAt: now,
	}
	if t.PlaybookName == "" {
		t.PlaybookName = t.Name
	}
	if err := s.checkTemplate(t); err != nil {
		return Template{}, err
	}
	content, err := decodePlaybook(n.PlaybookFileContents)
	if err != nil {
		return Template{}, err
	}
	taken := fault.New(fault.Exists, "patch template %q exists already; PATCH /patchTemplates/%s changes it", fault.Brief(n.Name), url.PathEscape(fault.Brief(n.Name)))
	if _, err := s.store.Get(ctx, templateKey(n.Name)); err == nil {
		return Template{}, taken
	} else if !errors.Is(err, fault.NotFound) {
		return Template{}, err
	}
	intent, err := s.store.Commit(ctx, state.NewBatch(state.StepPatch).If(goneKey(t.ID), 0).Put(goneKey(t.ID), gone{now}))
	if err != nil {
		return Template{}, fmt.Errorf("begin patch template %q: %w", n.Name, err)
	}
	if t.Playbook, err = s.putPlaybook(ctx, t.ID, content); err != nil {
		return Template{}, err
	}
	_, err = s.store.Commit(ctx, state.NewBatch(state.StepPatch).
		If(goneKey(t.ID), intent).Delete(goneKey(t.ID)).
		If(templateKey(t.Name), 0).Put(templateKey(t.Name), t).Put(versionKey(t.ID, 1), t))
	if errors.Is(err, fault.Conflict) {
		return Template{}, taken
	}
	if err != nil {
		return Template{}, fmt.Errorf("store patch template %q: %w", n.Name, err)
	}
	return t, nil
}

// UpdateTemplate stores the next version: what the change names, the rest as it
// was. Patches that wait keep the version that they were made with. ifVersion,
// unless 0, must be the current version (else fault.Stale).
func (s *Service) UpdateTemplate(ctx context.Context, name string, c TemplateChange, ifVersion int) (Template, error) {
	now, err := s.template(ctx, name)
	if err != nil {
		return Template{}, err
	}
	var playbook *Playbook
	if c.PlaybookFileContents != nil {
		content, err := decodePlaybook(*c.PlaybookFileContents)
		if err != nil {
			return Template{}, err
		}
		if _, err := s.changed(now.Value, c, nil, ifVersion); err != nil {
			return Template{}, err // before anything is put
		}
		p, err := s.putPlaybook(ctx, now.Value.ID, content)
		if err != nil {
			return Template{}, err
		}
		playbook = &p
	}
	r, err := state.Update(ctx, s.store, state.StepPatch, templateKey(name), func(t *Template, exists bool, b *state.Batch) error {
		if !exists || t.ID != now.Value.ID {
			return noTemplate(name)
		}
		next, err := s.changed(*t, c, playbook, ifVersion)
		if err != nil {
			return err
		}
		*t = next
		b.If(versionKey(t.ID, t.Version), 0).Put(versionKey(t.ID, t.Version), next)
		return nil
	})
	if playbook != nil && errors.Is(err, fault.NotFound) { // deleted meanwhile, perhaps before the playbook was put
		err = errors.Join(err, s.removeTemplate(ctx, now.Value.ID))
	}
	return r.Value, err
}

// changed is the version of t that c makes.
func (s *Service) changed(t Template, c TemplateChange, playbook *Playbook, ifVersion int) (Template, error) {
	if err := stale(t, ifVersion); err != nil {
		return t, err
	}
	if c.PatchType != nil {
		t.PatchType = *c.PatchType
	}
	if c.PlaybookName != nil {
		t.PlaybookName = *c.PlaybookName
	}
	if playbook != nil {
		t.Playbook = *playbook
	}
	if c.Description != nil {
		t.Description = *c.Description
	}
	if c.Enabled != nil {
		t.Enabled = *c.Enabled
	}
	if c.Options != nil {
		t.Options = c.Options
	}
	t.ExtraVars = maps.Clone(t.ExtraVars)
	for k, v := range c.ExtraVars {
		if v == nil {
			delete(t.ExtraVars, k)
			continue
		}
		if t.ExtraVars == nil {
			t.ExtraVars = map[string]string{}
		}
		t.ExtraVars[k] = *v
	}
	t.Version++
	t.UpdatedAt = s.stamp()
	return t, s.checkTemplate(t)
}

func stale(t Template, ifVersion int) error {
	if ifVersion != 0 && ifVersion != t.Version {
		return fault.New(fault.Stale, "patch template %q has version %d, not %d; read it again", fault.Brief(t.Name), t.Version, ifVersion)
	}
	return nil
}

func noTemplate(name string) error {
	return fault.New(fault.NotFound, "patch template %q does not exist", fault.Brief(name))
}

// Template returns the current version, or fault.NotFound.
func (s *Service) Template(ctx context.Context, name string) (Template, error) {
	r, err := s.template(ctx, name)
	return r.Value, err
}

func (s *Service) template(ctx context.Context, name string) (state.Record[Template], error) {
	if checkName("name", name) != nil {
		return state.Record[Template]{}, noTemplate(name)
	}
	r, err := state.Read[Template](ctx, s.store, templateKey(name))
	if errors.Is(err, fault.NotFound) {
		return r, noTemplate(name)
	}
	return r, err
}

// Templates returns the current versions by name, and the name to continue after
// ("" at the end).
func (s *Service) Templates(ctx context.Context, p Page) ([]Template, string, error) {
	if p.After != "" {
		p.After = url.PathEscape(p.After)
	}
	page, err := s.list(ctx, templatePrefix, p)
	if err != nil {
		return nil, "", fmt.Errorf("list patch templates: %w", err)
	}
	out := make([]Template, 0, len(page.Entries))
	next := ""
	for _, e := range page.Entries {
		t, err := state.Decode[Template](e)
		if err != nil {
			return nil, "", err
		}
		out, next = append(out, t.Value), t.Value.Name
	}
	if !page.More {
		next = ""
	}
	return out, next, nil
}

// DeleteTemplate removes a template with all versions and their playbooks; its
// name is free at once. Patches that wait for it will fail, ended ones stay.
func (s *Service) DeleteTemplate(ctx context.Context, name string, ifVersion int) error {
	r, err := s.template(ctx, name)
	if err != nil {
		return err
	}
	if err := stale(r.Value, ifVersion); err != nil {
		return err
	}
	id := r.Value.ID
	_, err = s.store.Commit(ctx, state.NewBatch(state.StepPatch).
		If(templateKey(name), r.Rev).Delete(templateKey(name)).Put(goneKey(id), gone{s.stamp()}))
	if errors.Is(err, fault.Conflict) {
		return s.DeleteTemplate(ctx, name, ifVersion) // changed in this moment: look again
	}
	if err != nil {
		return fmt.Errorf("delete patch template %q: %w", name, err)
	}
	if err := s.removeTemplate(ctx, id); err != nil {
		s.log.WarnContext(ctx, "rest of a deleted patch template is left to the sweep", "template", name, logx.Err, err)
	}
	return nil
}

// removeTemplate removes what belongs to a template id that nobody names any
// more. It may be repeated.
func (s *Service) removeTemplate(ctx context.Context, id string) error {
	folder := s.playbooks(id)
	list, err := s.cfg.Objects.List(ctx, folder, "", 0)
	if err != nil {
		return fmt.Errorf("list playbooks of template %s: %w", id, err)
	}
	for _, o := range list {
		if err := s.cfg.Objects.Delete(ctx, o.Key); err != nil {
			return fmt.Errorf("delete playbook %s: %w", o.Key, err)
		}
	}
	if err := s.removeAll(ctx, versionsOf(id)); err != nil {
		return err
	}
	_, err = s.store.Commit(ctx, state.NewBatch(state.StepPatch).Delete(goneKey(id)))
	return err
}

// removeAll removes every key below at.
func (s *Service) removeAll(ctx context.Context, at string) error {
	for {
		page, err := s.store.List(ctx, at, "", state.MaxBatch)
		if err != nil || len(page.Entries) == 0 {
			return err
		}
		b := state.NewBatch(state.StepPatch)
		for _, e := range page.Entries {
			b.Delete(e.Key)
		}
		if _, err := s.store.Commit(ctx, b); err != nil {
			return err
		}
	}
}

func (s *Service) playbooks(id string) string { return s.cfg.Prefix + "playbooks/" + id + "/" }

// putPlaybook stores a playbook under its digest: versions with the same
// contents share it, and one that changes leaves the others alone.
func (s *Service) putPlaybook(ctx context.Context, id string, content []byte) (Playbook, error) {
	sum := sha256.Sum256(content)
	p := Playbook{Bucket: s.cfg.Objects.Bucket(), Digest: hex.EncodeToString(sum[:]), Size: int64(len(content))}
	p.Key = s.playbooks(id) + p.Digest + ".yml"
	err := s.cfg.Objects.Put(ctx, state.PutPlaybook, p.Key, bytes.NewReader(content), p.Size, "application/yaml")
	if err != nil {
		return p, fmt.Errorf("store playbook: %w", err)
	}
	return p, nil
}

func decodePlaybook(text string) ([]byte, error) {
	const field = "playbookFileContents"
	if len(text) > base64.StdEncoding.EncodedLen(MaxPlaybook)+4096 { // with line breaks
		return nil, fault.New(fault.TooLarge, "%s has %d characters; a playbook has at most %d bytes", field, len(text), MaxPlaybook)
	}
	b, err := base64.StdEncoding.DecodeString(text) // passes over line breaks
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(text)
	}
	switch {
	case err != nil:
		return nil, fault.Field(field, "is not base64: %v", err)
	case len(b) == 0:
		return nil, fault.Field(field, "is empty; it holds the playbook in base64")
	case len(b) > MaxPlaybook:
		return nil, fault.New(fault.TooLarge, "%s has %d bytes, the limit is %d", field, len(b), MaxPlaybook)
	}
	return b, nil
}

// checkTemplate checks everything but the contents.
func (s *Service) checkTemplate(t Template) error {
	if err := checkName("name", t.Name); err != nil {
		return err
	}
	if err := checkType("patchType", t.PatchType); err != nil {
		return err
	}
	if err := checkName("playbookName", t.PlaybookName); err != nil {
		return err
	}
	if len(t.Description) > maxDescription {
		return fault.Field("description", "has %d bytes, the limit is %d", len(t.Description), maxDescription)
	}
	if err := checkVars("extraVars", t.ExtraVars); err != nil {
		return err
	}
	for k, v := range t.ExtraVars {
		if err := s.checkSyntax(v); err != nil {
			return fault.Field("extraVars."+k, "%s", fault.Message(err))
		}
	}
	if t.Options != nil {
		var list []json.RawMessage
		if len(t.Options) > maxOptions || json.Unmarshal(t.Options, &list) != nil || list == nil {
			return fault.Field("options", "must be a JSON array of at most %d bytes", maxOptions)
		}
	}
	return nil
}

// Limits of text that comes from outside.
const (
	maxName        = 2048
	maxDescription = 4096
	maxOptions     = 16 << 10
	maxVars        = 100
	maxVarName     = 256
	maxVarsBytes   = 32 << 10 // names and values of one map
)

func checkName(field, s string) error {
	switch {
	case s == "":
		return fault.Field(field, "is required")
	case len(s) > maxName:
		return fault.Field(field, "has %d bytes, the limit is %d", len(s), maxName)
	case strings.ToValidUTF8(s, "") != s || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 }):
		return fault.Field(field, "%q holds control characters or bytes that are not UTF-8", fault.Brief(s))
	}
	return nil
}

func checkType(field, t string) error {
	switch t {
	case AgentBased:
		return nil
	case "":
		return fault.Field(field, "is required; the one type is %q", AgentBased)
	case "agentless":
		return fault.Field(field, "agentless patches do not exist; use %q", AgentBased)
	}
	return fault.Field(field, "%q is no patch type; use %q", fault.Brief(t), AgentBased)
}

func checkVars(field string, vars map[string]string) error {
	if len(vars) > maxVars {
		return fault.Field(field, "has %d members, the limit is %d", len(vars), maxVars)
	}
	bytes := 0
	for k, v := range vars {
		bad := strings.ContainsFunc(k, func(r rune) bool { return r <= 0x20 || r == '=' || r == '"' || r == 0x7f })
		if k == "" || len(k) > maxVarName || bad || strings.ToValidUTF8(k, "") != k {
			return fault.Field(field, "%q is no name of a variable: 1 to %d bytes without spaces, quotes and =", fault.Brief(k), maxVarName)
		}
		bytes += len(k) + len(v)
	}
	if bytes > maxVarsBytes {
		return fault.Field(field, "has %d bytes, the limit is %d", bytes, maxVarsBytes)
	}
	return nil
}
