package event

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Webhook is a subscriber that gets events as HTTP requests.
type Webhook struct {
	ID      string
	URL     string
	Types   []Type // empty: all
	Active  bool
	Reason  string // why it is not active, when the service has paused it
	Version int    // of what can be edited, from 1
	// Sequence is how far it is: everything up to there was delivered, was not
	// asked for, or is a dead letter. It is at most about a second old.
	Sequence int64
	// Lost counts events that left the log before they could be delivered.
	Lost int64

	CreatedAt, UpdatedAt time.Time
}

// NewWebhook is what a webhook is made of.
type NewWebhook struct {
	URL      string
	Types    []Type // empty: all
	Secret   string // 16 to 256 characters, or whsec_ and base64 of 16 to 64 bytes; empty: one is made
	Inactive bool   // it is made paused
	// Key of a request that may come again, if it is not known whether it was carried
	// out: within a day the same one makes the same webhook. May be empty.
	Key string
}

// keyLife is how long the Key of a NewWebhook counts.
const keyLife = 24 * time.Hour

// WebhookUpdate is what is changed of a webhook; nil members stay.
type WebhookUpdate struct {
	URL    *string
	Types  *[]Type
	Secret *string
	Active *bool // true also forgets why it was paused
}

// Limits of webhooks.
const (
	MaxWebhooks = 100

	minSecret = 16
	maxSecret = 256
	maxKey    = 64

	secretPrefix = "whsec_"
)

// webhookRecord is a webhook in the store. A change of it starts its delivery
// anew from the cursor.
type webhookRecord struct {
	URL       string    `json:"url"`
	Types     []Type    `json:"types,omitempty"`
	Secret    []byte    `json:"secret"` // sealed
	Active    bool      `json:"active"`
	Reason    string    `json:"reason,omitempty"`
	Version   int       `json:"version"`
	Replays   int       `json:"replays,omitempty"`
	Key       string    `json:"key,omitempty"` // of the request that made it
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

func (r webhookRecord) webhook(id string, c cursor) Webhook {
	return Webhook{
		ID: id, URL: r.URL, Types: r.Types, Active: r.Active, Reason: r.Reason, Version: r.Version,
		Sequence: c.Sequence, Lost: c.Lost, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// cursor is how far a subscriber is.
type cursor struct {
	Sequence int64 `json:"sequence"`
	Lost     int64 `json:"lost,omitempty"`
}

// CreateWebhook makes a webhook. It gets what happens from now on. secret is what
// its requests are signed with: the one given or the one made; it is not told
// again.
func (s *Service) CreateWebhook(ctx context.Context, n NewWebhook) (w Webhook, secret string, err error) {
	if n.Secret == "" {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		n.Secret = secretPrefix + base64.StdEncoding.EncodeToString(key)
	}
	id, at := names.NewUUID(), s.stamp()
	r := webhookRecord{Active: !n.Inactive, Version: 1, CreatedAt: at, UpdatedAt: at, Key: n.Key}
	p, err := s.cfg.Store.List(ctx, webhookPrefix, "", MaxWebhooks)
	if err != nil {
		return Webhook{}, "", fmt.Errorf("count webhooks: %w", err)
	}
	var rev state.Rev
	for _, e := range p.Entries {
		before, err := state.Decode[webhookRecord](e)
		if err == nil && n.Key != "" && before.Value.Key == n.Key && at.Sub(before.Value.CreatedAt) < keyLife {
			id, rev = strings.TrimPrefix(e.Key, webhookPrefix), e.Rev
		}
	}
	if err := s.edit(&r, id, WebhookUpdate{URL: &n.URL, Types: &n.Types, Secret: &n.Secret}); err != nil {
		return Webhook{}, "", err
	}
	if rev == 0 && len(p.Entries) >= MaxWebhooks {
		return Webhook{}, "", fault.New(fault.Exhausted, "there are %d webhooks already: delete one first", MaxWebhooks)
	}
	_, last, err := s.Bounds(ctx)
	if err != nil {
		return Webhook{}, "", err
	}
	c := cursor{Sequence: last}
	b := state.NewBatch(state.StepWebhook).If(webhookKey(id), rev).Put(webhookKey(id), r)
	if rev == 0 {
		b.Put(cursorKey(id), c)
	}
	if _, err = s.cfg.Store.Commit(ctx, b); err != nil {
		return Webhook{}, "", fmt.Errorf("make webhook: %w", err)
	}
	return r.webhook(id, c), n.Secret, nil
}

// Webhook returns one webhook, or fault.NotFound.
func (s *Service) Webhook(ctx context.Context, id string) (Webhook, error) {
	r, err := s.webhook(ctx, id)
	if err != nil {
		return Webhook{}, err
	}
	c, err := state.ReadOr[cursor](ctx, s.cfg.Store, cursorKey(id))
	return r.Value.webhook(id, c.Value), err
}

// Webhooks returns all webhooks, the oldest first. There are at most MaxWebhooks.
func (s *Service) Webhooks(ctx context.Context) ([]Webhook, error) {
	var out []Webhook
	err := state.All[webhookRecord](ctx, s.cfg.Store, webhookPrefix, func(key string, r state.Record[webhookRecord]) error {
		id := strings.TrimPrefix(key, webhookPrefix)
		c, err := state.ReadOr[cursor](ctx, s.cfg.Store, cursorKey(id))
		out = append(out, r.Value.webhook(id, c.Value))
		return err
	})
	slices.SortFunc(out, func(a, b Webhook) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, err
}

// UpdateWebhook changes a webhook. ifVersion (0: any) is the version that the
// caller has read: fault.Stale if it is not the current one.
func (s *Service) UpdateWebhook(ctx context.Context, id string, u WebhookUpdate, ifVersion int) (Webhook, error) {
	r, err := s.change(ctx, id, ifVersion, func(r *webhookRecord, _ *state.Batch) error {
		r.Version++
		r.UpdatedAt = s.stamp()
		return s.edit(r, id, u)
	})
	if err != nil {
		return Webhook{}, err
	}
	c, err := state.ReadOr[cursor](ctx, s.cfg.Store, cursorKey(id))
	return r.webhook(id, c.Value), err
}

// DeleteWebhook removes a webhook and its dead letters. ifVersion is as in
// UpdateWebhook.
func (s *Service) DeleteWebhook(ctx context.Context, id string, ifVersion int) error {
	_, err := s.change(ctx, id, ifVersion, func(_ *webhookRecord, b *state.Batch) error {
		b.Delete(webhookKey(id)).Delete(cursorKey(id))
		return nil
	})
	if err != nil {
		return err
	}
	return s.dropDeadLetters(ctx, id) // what a crash leaves is swept
}

// change edits the record of a webhook.
func (s *Service) change(ctx context.Context, id string, ifVersion int, edit func(*webhookRecord, *state.Batch) error) (webhookRecord, error) {
	if _, err := s.webhook(ctx, id); err != nil {
		return webhookRecord{}, err
	}
	r, err := state.Update(ctx, s.cfg.Store, state.StepWebhook, webhookKey(id), func(r *webhookRecord, exists bool, b *state.Batch) error {
		if !exists {
			return noWebhook(id)
		}
		if ifVersion != 0 && ifVersion != r.Version {
			return fault.New(fault.Stale, "webhook %q has version %d, not %d: read it again", id, r.Version, ifVersion)
		}
		return edit(r, b)
	})
	return r.Value, err
}

func (s *Service) webhook(ctx context.Context, id string) (state.Record[webhookRecord], error) {
	if id == "" || strings.Contains(id, "/") {
		return state.Record[webhookRecord]{}, noWebhook(id)
	}
	r, err := state.Read[webhookRecord](ctx, s.cfg.Store, webhookKey(id))
	if errors.Is(err, fault.NotFound) {
		err = noWebhook(id)
	}
	return r, err
}

func noWebhook(id string) error { return fault.New(fault.NotFound, "there is no webhook %.64q", id) }

// edit checks u and makes it part of r.
func (s *Service) edit(r *webhookRecord, id string, u WebhookUpdate) error {
	if u.URL != nil {
		if err := s.cfg.Sender.CheckURL(*u.URL); err != nil {
			return err
		}
		r.URL = *u.URL
	}
	if u.Types != nil {
		types := slices.Clone(*u.Types)
		for i, t := range types {
			if !t.Published() {
				return fault.Field(fmt.Sprintf("types[%d]", i), "%.64q is not a type of event; there are %q", t, Types())
			}
		}
		slices.Sort(types)
		r.Types = slices.Compact(types)
	}
	if u.Secret != nil {
		if _, err := signingKey(*u.Secret); err != nil {
			return err
		}
		sealed, err := s.cfg.Sealer.Seal(webhookKey(id), []byte(*u.Secret))
		if err != nil {
			return fmt.Errorf("seal secret of webhook: %w", err)
		}
		r.Secret = sealed
	}
	if u.Active != nil {
		r.Active = *u.Active
		r.Reason = ""
	}
	return nil
}

// signingKey returns the key that a secret stands for (Standard Webhooks:
// whsec_ and base64 of it; any other text is the key itself).
func signingKey(secret string) ([]byte, error) {
	if coded, ok := strings.CutPrefix(secret, secretPrefix); ok {
		key, err := base64.StdEncoding.DecodeString(coded)
		if err != nil || len(key) < minSecret || len(key) > maxKey {
			return nil, fault.Field("secret", "after whsec_ there must be the base64 form of %d to %d bytes", minSecret, maxKey)
		}
		return key, nil
	}
	if n := utf8.RuneCountInString(secret); n < minSecret || n > maxSecret || !utf8.ValidString(secret) {
		return nil, fault.Field("secret", "must have %d to %d characters", minSecret, maxSecret)
	}
	return []byte(secret), nil
}

func (s *Service) stamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }
