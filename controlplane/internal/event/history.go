package event

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// A history holds the last things that happened to a core. It grows in the
// commit that gives an event its place, so it has each of them once. After the
// core was deleted it stays until the name is used again, or historyAfter; that of
// a name under which nothing came to be goes after historyAfter too.
const (
	maxHistory      = 100
	maxHistoryBytes = 6 << 10 // of the encoded entries
	maxEntryDetail  = 1 << 10
	maxEntryMessage = 500
	historyAfter    = 30 * 24 * time.Hour
	historySweep    = time.Hour
)

type history struct {
	Entries []entry `json:"e"`           // oldest first
	Deleted bool    `json:"d,omitempty"` // there is nothing of this name: not any more, or not yet
}

// entry is an Event in short; there are many.
type entry struct {
	ID       string          `json:"i"`
	Type     Type            `json:"t"`
	At       int64           `json:"a"` // ms since 1970
	Sequence int64           `json:"s,omitempty"`
	Detail   json.RawMessage `json:"v,omitempty"`
}

func (n entry) event(core string) Event {
	return Event{ID: n.ID, Type: n.Type, Core: core, At: time.UnixMilli(n.At).UTC(), Sequence: n.Sequence, Detail: n.Detail}
}

// size is about what the entry takes in the store.
func (n entry) size() int { return len(n.ID) + len(n.Type) + len(n.Detail) + 48 }

func (n entry) deletion() bool { return n.Type == CoreDeleted || n.Type == DeviceDeleted }

// append adds e and drops what is too much.
func (h *history) append(e *Event) {
	switch {
	case (e.Type == CoreCreated || e.Type == DeviceCreated) && e.succeeded():
		if h.Deleted && slices.ContainsFunc(h.Entries, entry.deletion) {
			*h = history{} // another core with this name
		}
		h.Deleted = false
	case len(h.Entries) == 0, (e.Type == CoreDeleted || e.Type == DeviceDeleted) && e.succeeded():
		h.Deleted = true
	}
	h.Entries = append(h.Entries, entry{ID: e.ID, Type: e.Type, At: e.At.UnixMilli(), Sequence: e.Sequence, Detail: brief(e.Detail)})
	bytes, keep := 0, len(h.Entries)
	for keep > 0 && len(h.Entries)-keep < maxHistory {
		bytes += h.Entries[keep-1].size()
		if bytes > maxHistoryBytes && keep < len(h.Entries) {
			break
		}
		keep--
	}
	h.Entries = slices.Clone(h.Entries[keep:])
}

// brief returns detail short enough for an entry: what is long in it is the
// message.
func brief(detail json.RawMessage) json.RawMessage {
	if len(detail) <= maxEntryDetail {
		return detail
	}
	var members map[string]any
	if json.Unmarshal(detail, &members) == nil {
		if m, ok := members["message"].(string); ok {
			members["message"] = fault.Clip(m, maxEntryMessage)
		}
		if raw, err := json.Marshal(members); err == nil && len(raw) <= maxEntryDetail {
			return raw
		}
	}
	return json.RawMessage("{}")
}

// History returns up to count (0: all; there are never more than 100) of the last
// events of core, newest first, of all types. after is the id of the last event
// of the page before, empty for the first page; next is that of this page, empty
// when nothing older is kept. A name that nothing is known of has no history.
func (s *Service) History(ctx context.Context, core, after string, count int) (events []Event, next string, err error) {
	if count < 0 || count > maxCount {
		return nil, "", fault.Field("count", "%d is not between 1 and %d", count, maxCount)
	}
	h, err := state.ReadOr[history](ctx, s.cfg.Store, historyKey(core))
	if err != nil {
		return nil, "", err
	}
	entries := h.Value.Entries
	if after != "" { // what is not there any more was the oldest
		i := slices.IndexFunc(entries, func(n entry) bool { return n.ID == after })
		entries = entries[:max(0, i)]
	}
	for _, n := range slices.Backward(entries) {
		if count > 0 && len(events) == count {
			return events, events[count-1].ID, nil
		}
		events = append(events, n.event(core))
	}
	return events, "", nil
}

// sweep removes what nobody asks for any more, once an hour.
func (s *Service) sweep(ctx context.Context) error {
	return run.Every(ctx, historySweep, func(ctx context.Context) error {
		return errors.Join(s.sweepHistories(ctx), s.sweepDeadLetters(ctx))
	}, func(err error) {
		s.log.WarnContext(ctx, "old histories and dead letters not removed; trying again later", logx.Err, err)
	})
}

// sweepHistories removes histories of what was deleted long ago.
func (s *Service) sweepHistories(ctx context.Context) error {
	return state.All[time.Time](ctx, s.cfg.Store, gonePrefix, func(key string, r state.Record[time.Time]) error {
		if s.now().Sub(r.Value) < historyAfter {
			return nil
		}
		core := strings.TrimPrefix(key, gonePrefix)
		_, err := s.cfg.Store.Commit(ctx, state.NewBatch(state.StepHistory).If(key, r.Rev).Delete(key).Delete(historyKey(core)))
		if errors.Is(err, fault.Conflict) {
			return nil // made again just now
		}
		return err
	})
}
