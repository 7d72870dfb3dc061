package gateway

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
)

// Identity is whoever stands behind a client certificate now.
type Identity struct {
	CertificateID string // hex SHA-256 of the certificate
	Thing         string // empty: attached to no thing
	ThingType     string
	Attributes    map[string]string
	Policies      []*policy.Document
	// Boundary, unless nil, is the most that the policies can allow.
	Boundary *policy.Document
}

// Identities is the registry as the gateway needs it.
type Identities interface {
	// Identify returns the identity behind leaf. A permanent error
	// (fault.Permanent: unknown, inactive, revoked, outside its dates) refuses
	// the device; any other one asks it to try again.
	Identify(ctx context.Context, leaf *x509.Certificate) (Identity, error)
}

// Changes tells which identities may have changed.
type Changes interface {
	// Watch calls notify with the ids of certificates whose status, things or
	// policies changed, and without ids when any may have: in any case once as
	// soon as it watches, since what changed before that was seen by nobody.
	// notify returns at once. Watch blocks until ctx is done or it fails; the
	// gateway then calls it again.
	Watch(ctx context.Context, notify func(certificateIDs ...string)) error
}

// Session is a connection as the services behind reserved topics see it.
type Session struct {
	ClientID string
	Identity Identity
	Address  string // remote address, host and port
}

// Reserved serves requests on topics that begin with $aws/.
type Reserved interface {
	// Serve carries out one request that policy allowed. What must be durable is
	// committed when it returns: the PUBACK follows. Requests of one connection
	// come in order, those of different connections at once. The payload is the
	// callee's.
	//
	// Errors: fault.NotFound and fault.Unsupported mean that no service owns the
	// topic; with fault.Denied they refuse the publish. Other permanent errors
	// are logged and acknowledged, since sending it again cannot help. Any other
	// error ends the connection without a PUBACK, so that the device tries again.
	Serve(ctx context.Context, s Session, topic string, payload []byte) ([]Message, error)
}

// Message is something to send to a device.
type Message struct {
	Topic   string
	Payload []byte

	// Push delivers an answer to the requesting connection although it is not
	// subscribed to Topic. Policy decides all the same.
	Push bool
	// Notice sends to every session of the thing that is subscribed, instead of
	// the requesting connection alone.
	Notice bool
	// Ref is the sender's own mark; Events.TooLarge gives it back.
	Ref string
}

// Events are told what happens to sessions; nil functions are skipped. They are
// called from the connection's goroutine and must not block for long.
type Events struct {
	// Connected comes before the session's first request, Disconnected after its
	// last, once for each Connected and with the same Session. reason is a word of iot-api §21. While one
	// client id is taken over, Disconnected of the old comes before Connected of
	// the new session.
	Connected    func(s Session, at time.Time)
	Disconnected func(s Session, reason string, at time.Time)
	// Published sees each plain publish that was let through, before its PUBACK,
	// and each last will that was sent: before Disconnected unless it was delayed.
	Published func(s Session, topic string, payload []byte)
	// TooLarge tells that an answer or notice to a request of s was over the
	// Maximum Packet Size of a client, in bytes, and can never arrive there.
	// Push tells its caller itself.
	TooLarge func(s Session, m Message, limit int)
}

// PushResult counts what became of a Push in the sessions of the thing. All
// zero: the thing is not connected here.
type PushResult struct {
	Delivered     int // handed to the connection
	NotSubscribed int // no filter matches, or policy does not let it receive
	TooLarge      int // over the client's Maximum Packet Size
	Limit         int // the smallest such maximum met, in bytes
}

// NotConnected tells that the thing has no session on this gateway.
func (r PushResult) NotConnected() bool {
	return r.Delivered+r.NotSubscribed+r.TooLarge == 0
}
