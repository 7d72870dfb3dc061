package captures

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// The identities in the captures that Replay itself rewrites.
const (
	CapturedThing     = "heldout-core-1"
	CapturedRoleAlias = "HeldoutRoleAlias"
)

// Target is the cloud to play to, and the identity to play as. All but Rewrite
// and AnswerTimeout are mandatory.
type Target struct {
	MQTT        string // host:port
	DataPlane   string // host:port
	Credentials string // host:port
	Thing       string
	RoleAlias   string
	Region      string
	Certificate tls.Certificate
	RootCAs     *x509.CertPool
	Driver      Driver
	// CSR is that of the device to provision, PEM; only for the claim's part of
	// SplitClaim.
	CSR string

	// Rewrite maps further identities, such as group names; it sees topics,
	// payloads, paths and bodies after Thing and RoleAlias were put in.
	Rewrite       func(string) string
	AnswerTimeout time.Duration // for one answer; default 30 s, as the runtime waits
}

// Driver makes a deployment when the capture's operator did.
type Driver interface {
	// Deploy makes the deployment now and returns the id of its job. An empty
	// id: the next job that arrives is taken for it.
	Deploy(ctx context.Context, d DeploymentSpec) (jobID string, err error)
}

// DeploymentSpec is a deployment to make, identities rewritten.
type DeploymentSpec struct {
	Name       string
	Kind       names.TargetKind
	Target     string // a thing or a thing group that the thing must be in
	Components map[string]protocol.DocumentComponent
	Document   protocol.DeploymentDocument // as the capture's cloud sent it, not rewritten
}

// Result is what a replay found.
type Result struct {
	Script     string
	Sent       int // MQTT packets and HTTP requests of the core's half
	Awaited    int // answers due
	Answered   int
	Statuses   int      // fleet status messages among Sent
	Violations []string // of the contract, each with the capture's line
	// Provisioned is what a claim was traded for.
	Provisioned Provisioned
}

// String is one line for a test's log.
func (r Result) String() string {
	return fmt.Sprintf("%s: %d packets sent (%d fleet statuses), %d answers due, %d answered, %d violations", r.Script, r.Sent, r.Statuses, r.Awaited, r.Answered, len(r.Violations))
}

// Replay plays the core's half of s to t and checks the answers. It returns what
// it found so far together with an error when it cannot go on: a lost connection,
// an answer that does not come.
func Replay(ctx context.Context, s Script, t Target) (Result, error) {
	if !s.Replayable() && t.CSR == "" {
		return Result{Script: s.Name}, fault.New(fault.Unsupported, "capture %s is of provisioning by claim; play the parts of SplitClaim, the claim's with a CSR", s.Name)
	}
	if t.Driver == nil || t.RootCAs == nil || t.Thing == "" || t.MQTT == "" || t.DataPlane == "" || t.Credentials == "" {
		return Result{Script: s.Name}, fault.New(fault.Invalid, "the target of a replay needs MQTT, DataPlane, Credentials, Thing, RootCAs and Driver")
	}
	if t.AnswerTimeout <= 0 {
		t.AnswerTimeout = 30 * time.Second
	}
	r := &replayer{
		t: t, s: s, res: Result{Script: s.Name}, client: newClient(t),
		ids: []string{CapturedThing, t.Thing, CapturedRoleAlias, t.RoleAlias}, jobs: map[string]string{}, acks: map[int]uint16{},
	}
	defer r.close()
	err := r.run(ctx)
	return r.res, err
}

type replayer struct {
	t   Target
	s   Script
	res Result

	line   int // of the entry at hand
	conn   net.Conn
	br     *bufio.Reader
	inbox  []mqttwire.Packet // received, not asked for yet
	client *http.Client

	ids       []string          // pairs: in the capture, at the target
	docIDs    []string          // pairs of deployment ids; the captures have the job's id for both
	jobs      map[string]string // the capture's job → the target's
	acks      map[int]uint16    // the capture's packet id of the cloud → the target's, PUBACK due
	presigned string            // the last artifact URL
	artifacts []artifact        // of the last recipes
}

func (r *replayer) run(ctx context.Context) error {
	deployments, err := r.s.deployments()
	if err != nil {
		return err
	}
	if r.needsPrelude() {
		if err := r.prelude(ctx); err != nil {
			return fmt.Errorf("capture %s, prelude: %w", r.s.Name, err)
		}
	}
	for i, e := range r.s.Entries {
		r.line = e.Line
		for _, d := range deployments {
			if d.before == i {
				if err := r.deploy(ctx, d); err != nil {
					return fmt.Errorf("capture %s line %d: %w", r.s.Name, e.Line, err)
				}
			}
		}
		if err := r.play(ctx, i, e); err != nil {
			return fmt.Errorf("capture %s line %d: %w", r.s.Name, e.Line, err)
		}
	}
	return r.stillThere(ctx)
}

// needsPrelude: most captures begin within a session.
func (r *replayer) needsPrelude() bool {
	for _, e := range r.s.Entries {
		if e.Packet != nil && e.Core {
			return e.Packet.Type != "CONNECT"
		}
	}
	return true
}

// prelude opens the session that the capture began in; it is not counted.
func (r *replayer) prelude(ctx context.Context) error {
	err := r.connect(ctx, mqttwire.Packet{Type: mqttwire.Connect, ClientID: r.t.Thing, CleanStart: true, KeepAlive: 30, Props: mqttwire.Properties{MaximumPacketSize: maxPacket}})
	if err != nil {
		return err
	}
	if _, err := r.next(ctx, ofType(mqttwire.Connack)); err != nil {
		return err
	}
	const id = 60001 // none of the captures' ids
	if err := r.write(mqttwire.Packet{Type: mqttwire.Subscribe, ID: id, Filters: []string{protocol.JobsNotifyNext(r.t.Thing)}}); err != nil {
		return err
	}
	_, err = r.next(ctx, func(p mqttwire.Packet) bool { return p.Type == mqttwire.Suback && p.ID == id })
	return err
}

func (r *replayer) deploy(ctx context.Context, d deployment) error {
	spec := DeploymentSpec{Name: d.doc.DeploymentName, Components: d.doc.Components, Document: d.doc}
	_, rest, _ := strings.Cut(d.doc.ConfigurationARN, ":configuration:")
	rest = rest[:max(0, strings.LastIndex(rest, ":"))]
	kind, name, ok := strings.Cut(rest, "/")
	if !ok {
		return fault.New(fault.Invalid, "configuration ARN %q", d.doc.ConfigurationARN)
	}
	spec.Kind, spec.Target = names.TargetKind(kind), r.rewrite(name)
	id, err := r.t.Driver.Deploy(ctx, spec)
	if err != nil {
		return fmt.Errorf("making deployment %s: %w", d.job, err)
	}
	if id != "" {
		r.learn(d.job, id)
		r.jobs[d.job] = id
	}
	return nil
}

func (r *replayer) play(ctx context.Context, i int, e Entry) error {
	switch e.Kind {
	case KindRequest:
		return r.request(ctx, i, e)
	case KindClosed:
		r.close()
	case KindMQTT:
		if e.Core {
			return r.send(ctx, *e.Packet)
		}
		return r.expect(ctx, e)
	case KindTLS, KindResponse: // TLS comes with the first packet, responses with their request
	}
	return nil
}

// send plays one packet of the core.
func (r *replayer) send(ctx context.Context, p Packet) error {
	out := mqttwire.Packet{ID: uint16(p.ID)} //nolint:gosec // a packet id by the format
	switch p.Type {
	case "CONNECT":
		r.res.Sent++
		out = mqttwire.Packet{Type: mqttwire.Connect, ClientID: r.rewrite(p.ClientID), CleanStart: true, KeepAlive: uint16(p.KeepAlive), Props: mqttwire.Properties{MaximumPacketSize: uint32(p.MaxPacket)}} //nolint:gosec // bounded by the protocol
		return r.connect(ctx, out)
	case "SUBSCRIBE", "UNSUBSCRIBE":
		out.Type = mqttwire.Subscribe
		if p.Type == "UNSUBSCRIBE" {
			out.Type = mqttwire.Unsubscribe
		}
		for _, f := range p.Filters {
			out.Filters = append(out.Filters, r.rewrite(f))
		}
	case "PUBLISH":
		out.Type, out.Topic, out.QoS, out.Payload = mqttwire.Publish, r.rewrite(p.Topic), byte(p.QoS), []byte(r.rewrite(string(p.Payload))) //nolint:gosec // 0 or 1
		if strings.HasSuffix(p.Topic, "/greengrassv2/health/json") {
			r.res.Statuses++
			out.Payload = []byte(r.rewrite(strings.NewReplacer(r.docIDs...).Replace(string(p.Payload))))
		}
		r.ask(&out)
	case "PUBACK":
		id, ok := r.acks[p.ID]
		if !ok {
			return nil // of a packet before the capture began
		}
		delete(r.acks, p.ID)
		out.Type, out.ID = mqttwire.Puback, id
	case "PINGREQ":
		out.Type = mqttwire.Pingreq
	case "DISCONNECT":
		out.Type = mqttwire.Disconnect
	default:
		return fault.New(fault.Invalid, "a core does not send %s", p.Type)
	}
	r.res.Sent++
	return r.write(out)
}

// expect waits for the answer that the capture's cloud gave here, and checks it.
func (r *replayer) expect(ctx context.Context, e Entry) error {
	p := *e.Packet
	r.res.Awaited++
	if p.Type == "PUBLISH" {
		return r.expectMessage(ctx, e)
	}
	byID := map[string]mqttwire.Type{"SUBACK": mqttwire.Suback, "PUBACK": mqttwire.Puback, "UNSUBACK": mqttwire.Unsuback}
	match := func(got mqttwire.Packet) bool { return got.Type == byID[p.Type] && int(got.ID) == p.ID }
	switch p.Type {
	case "CONNACK":
		match = ofType(mqttwire.Connack)
	case "PINGRESP":
		match = ofType(mqttwire.Pingresp)
	}
	got, err := r.next(ctx, match)
	if err != nil {
		return fmt.Errorf("waiting for %s %d: %w", p.Type, p.ID, err)
	}
	r.res.Answered++
	r.checkAck(got, len(p.Codes))
	return nil
}

func (r *replayer) expectMessage(ctx context.Context, e Entry) error {
	topic := r.rewrite(e.Packet.Topic)
	want := executionIn(e)
	got, err := r.next(ctx, func(got mqttwire.Packet) bool {
		if got.Type != mqttwire.Publish || got.Topic != topic {
			return false
		}
		return r.isAnswer(got.Payload, want)
	})
	if err != nil {
		return fmt.Errorf("waiting for a message on %s: %w", topic, err)
	}
	r.res.Answered++
	if got.QoS == 1 {
		r.acks[e.Packet.ID] = got.ID
	}
	if ofClaim(topic) {
		r.given(e.Packet.Payload, got)
		return nil
	}
	r.checkMessage(got)
	if want != nil {
		r.checkJob(want, got.Payload)
	}
	return nil
}

// isAnswer tells the expected message from a further notification: the same job,
// or like the capture no job at all.
func (r *replayer) isAnswer(payload []byte, want *protocol.JobExecution) bool {
	var a protocol.JobAnswer
	if json.Unmarshal(payload, &a) != nil {
		return true // let the check say what is wrong
	}
	if want == nil || a.Execution == nil {
		return want == nil && a.Execution == nil
	}
	there, known := r.jobs[want.JobID]
	if !known && !slices.Contains(mapValues(r.jobs), a.Execution.JobID) {
		r.jobs[want.JobID] = a.Execution.JobID
		r.learn(want.JobID, a.Execution.JobID)
		return true
	}
	return a.Execution.JobID == there
}

// learn maps an identity that the target gave.
func (r *replayer) learn(captured, there string) {
	if captured != there && captured != "" {
		r.ids = append([]string{captured, there}, r.ids...)
	}
}

func (r *replayer) rewrite(s string) string {
	s = strings.NewReplacer(r.ids...).Replace(s)
	if r.t.Rewrite != nil {
		s = r.t.Rewrite(s)
	}
	return s
}

func (r *replayer) violate(format string, args ...any) {
	r.res.Violations = append(r.res.Violations, fmt.Sprintf("%s line %d: ", r.s.Name, r.line)+fmt.Sprintf(format, args...))
}

func mapValues(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}
