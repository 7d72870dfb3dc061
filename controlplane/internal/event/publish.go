package event

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Message is an event as the MQTT topics and the stream carry it: the envelope,
// and its place in the log.
type Message struct {
	Envelope
	Sequence int64 `json:"sequence"`
}

// Message returns e as topics and stream carry it.
func (e Event) Message() Message { return Message{Envelope: e.Envelope(), Sequence: e.Sequence} }

// Topic returns the MQTT topic of e: ggfleet/events/<core>/<slug>. An event that
// belongs to no core has - in its place.
func (e Event) Topic() string {
	core := e.Core
	if core == "" {
		core = "-"
	}
	return fmt.Sprintf("ggfleet/events/%s/%s", core, e.Type.Slug())
}

// publish hands what comes to the MQTT gateway of this process: each replica has
// its own devices.
func (s *Service) publish(ctx context.Context) error {
	wait := run.Backoff{Max: 2 * time.Second}
	at := Newest
	for ctx.Err() == nil {
		err := s.Stream(ctx, Filter{}, at, func(events []Event) error {
			wait.Reset()
			for _, e := range events {
				if err := s.publishOne(ctx, e); err != nil {
					s.count.unpublished.Add(1)
					s.log.WarnContext(ctx, "event not published", logx.Topic, e.Topic(), logx.Err, err)
				} else {
					s.count.published.Add(1)
				}
				at = e.Sequence
			}
			return ctx.Err()
		})
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.log.WarnContext(ctx, "events are not published; trying again", logx.Err, err)
		if fault.KindOf(err) == fault.Stale {
			at = Oldest // the gap shows in the sequences
			s.count.unpublished.Add(1)
		}
		_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
	}
	return nil
}

func (s *Service) publishOne(ctx context.Context, e Event) error {
	payload, err := json.Marshal(e.Message())
	if err != nil {
		return err
	}
	return s.cfg.Publisher.Publish(ctx, e.Topic(), payload)
}
