package help

import (
	"time"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Status is how far a request is.
type Status string

// The states. All but the first two are final.
const (
	Waiting Status = "waiting" // for the device to take it
	Taken   Status = "taken"   // the device is at it
	Done    Status = "done"
	Refused Status = "refused" // by the device's owner
	Failed  Status = "failed"
	Expired Status = "expired" // the device did not come, or did not report
)

// Withdrawn is the status in the event of a request that was deleted before it
// had ended.
const Withdrawn Status = "withdrawn"

// Codes that a message of the control plane begins with.
const (
	Interrupted = "INTERRUPTED" // the device cannot tell how its restart ended
	Incomplete  = "INCOMPLETE"  // what the device sent did not arrive whole
)

// Request is one thing that was asked of one device.
type Request struct {
	ID     string        `json:"requestId"` // UUID
	Device string        `json:"deviceName"`
	Role   protocol.Role `json:"role"`
	protocol.HelpAsk
	By string `json:"by"` // who asked

	Status    Status    `json:"status"`
	Message   string    `json:"message,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	ExpiresAt time.Time `json:"expiresAt"` // when an open one expires, or an ended one is removed

	Size   int64  `json:"size,omitempty"`   // bytes of the content
	Digest string `json:"digest,omitempty"` // lower-case hex SHA-256 of it
	Next   string `json:"next,omitempty"`
	Lost   bool   `json:"lost,omitempty"`
	More   bool   `json:"more,omitempty"`

	// Follows is the request whose place this one took; it makes no events.
	Follows string `json:"follows,omitempty"`
}

// Subject is the device that is asked.
func (r Request) Subject() protocol.Subject {
	return protocol.Subject{Role: r.Role, Name: r.Device}
}

// Ended reports whether nothing more comes of it.
func (r Request) Ended() bool { return r.Status != Waiting && r.Status != Taken }

// New is the input of Create.
type New struct {
	Subject protocol.Subject
	protocol.HelpAsk
	By string // who asks; required

	// Key names the request: asked again with the same one, it is the same request.
	// Empty: each is another one.
	Key string

	// Wait is how long the request waits for the device, MinWait to Keep; 0:
	// DefaultWait.
	Wait time.Duration

	// Follows is an ended request for logs of the same device by the same asker.
	// This one, a logs.range without From, goes on where that one ended, and takes
	// its place: that one is removed.
	Follows string
}

// Limits.
const (
	MinWait     = 10 * time.Second
	DefaultWait = 10 * time.Minute
	Keep        = 7 * 24 * time.Hour // after which a request and its content are removed
	MaxPage     = 100
)

// Page asks for a part of a listing.
type Page struct {
	After string // what the page before gave as next
	Count int    // 0: MaxPage
}
