package iot

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Member is a thing that was in a group when it was read.
type Member struct {
	Thing string
	rev   state.Rev
}

// MembersAfter is MemberPage with what StillBatch needs.
func (r *Registry) MembersAfter(ctx context.Context, group, after string, limit int) ([]Member, error) {
	p := memberPrefix(group)
	page, err := r.store.List(ctx, p, p+after, limit)
	if err != nil {
		return nil, fmt.Errorf("list members of %s: %w", group, err)
	}
	out := make([]Member, len(page.Entries))
	for i, e := range page.Entries {
		out[i] = Member{e.Key[len(p):], e.Rev}
	}
	return out, nil
}

// StillBatch makes b conditional on m being in the group as it was read.
func (r *Registry) StillBatch(b *state.Batch, group string, m Member) {
	b.If(memberKey(group, m.Thing), m.rev)
}

// Member returns a thing of the group; ok is false when it is not in there.
func (r *Registry) Member(ctx context.Context, group, thing string) (m Member, ok bool, err error) {
	e, err := state.ReadOr[struct{}](ctx, r.store, memberKey(group, thing))
	return Member{thing, e.Rev}, e.Rev != 0, err
}
