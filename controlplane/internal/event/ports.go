package event

import (
	"context"
	"time"
)

// Publisher sends messages to the subscribers of a topic that are connected to
// this process.
type Publisher interface {
	Publish(ctx context.Context, topic string, payload []byte) error
}

// Bus is another event bus.
type Bus interface {
	// Put hands events over. It returns nil only if the bus took every one of
	// them: an entry that was refused inside of a successful answer is an error.
	// After an error that is not fault.Permanent all of them are put again.
	Put(ctx context.Context, events []Envelope) error
}

// Sender carries events to webhooks.
type Sender interface {
	// CheckURL returns fault.Invalid with the field url if nothing may ever be sent
	// there.
	CheckURL(url string) error
	// Send makes one attempt, within about ten seconds.
	Send(ctx context.Context, r Request) Outcome
}

// Request is one event for one webhook.
type Request struct {
	URL   string
	Key   []byte // that the request is signed with
	Event Event
}

// Verdict is what became of one attempt.
type Verdict int

// The verdicts.
const (
	Taken   Verdict = iota // the subscriber has it
	Again                  // try again
	Refused                // this event will never be taken
	Closed                 // the subscriber wants no events any more
)

// Outcome is a verdict with its reason.
type Outcome struct {
	Verdict Verdict
	Reason  string        // follows "the receiver"; holds no URL
	Wait    time.Duration // at least, before the next attempt
}

// MaxReason bounds the text of an error in Outcome.Reason, in bytes.
const MaxReason = 200
