package captures

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// maxPacket is the Maximum Packet Size that the recorded core announces.
const maxPacket = 5000

func ofType(t mqttwire.Type) func(mqttwire.Packet) bool {
	return func(p mqttwire.Packet) bool { return p.Type == t }
}

func (r *replayer) connect(ctx context.Context, p mqttwire.Packet) error {
	r.close()
	host, _, _ := net.SplitHostPort(r.t.MQTT)
	cert := r.t.Certificate
	cert.Certificate = cert.Certificate[:1] // lite sends the leaf alone
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: r.t.AnswerTimeout},
		Config:    &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: r.t.RootCAs, Certificates: []tls.Certificate{cert}},
	}
	conn, err := d.DialContext(ctx, "tcp", r.t.MQTT)
	if err != nil {
		return fmt.Errorf("connecting to the broker: %w", err)
	}
	r.conn, r.br, r.inbox = conn, bufio.NewReader(conn), nil
	r.acks = map[int]uint16{}
	return r.write(p)
}

func (r *replayer) close() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

func (r *replayer) write(p mqttwire.Packet) error {
	if r.conn == nil {
		return net.ErrClosed
	}
	b, err := mqttwire.Append(nil, p, mqttwire.V5)
	if err != nil {
		return err
	}
	_ = r.conn.SetWriteDeadline(time.Now().Add(r.t.AnswerTimeout))
	if _, err := r.conn.Write(b); err != nil {
		return fmt.Errorf("sending %s: %w", p.Type, err)
	}
	return nil
}

// next returns the first packet that matches, received before or to come.
func (r *replayer) next(ctx context.Context, match func(mqttwire.Packet) bool) (mqttwire.Packet, error) {
	if i := slices.IndexFunc(r.inbox, match); i >= 0 {
		p := r.inbox[i]
		r.inbox = slices.Delete(r.inbox, i, i+1)
		return p, nil
	}
	if r.conn == nil {
		return mqttwire.Packet{}, net.ErrClosed
	}
	deadline := time.Now().Add(r.t.AnswerTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = r.conn.SetReadDeadline(deadline)
	for {
		if err := ctx.Err(); err != nil {
			return mqttwire.Packet{}, err
		}
		p, err := mqttwire.Read(r.br, mqttwire.V5, maxPacket)
		if err != nil {
			return p, fmt.Errorf("reading the answer: %w", err)
		}
		if match(p) {
			return p, nil
		}
		r.inbox = append(r.inbox, p)
	}
}

// stillThere ends a replay: the connection must have survived it, and what came
// beyond the capture (further notifications) must keep the contract too.
func (r *replayer) stillThere(ctx context.Context) error {
	if r.conn != nil {
		if err := r.write(mqttwire.Packet{Type: mqttwire.Pingreq}); err != nil {
			return fmt.Errorf("capture %s, at the end: %w", r.s.Name, err)
		}
		if _, err := r.next(ctx, ofType(mqttwire.Pingresp)); err != nil {
			return fmt.Errorf("capture %s, at the end: %w", r.s.Name, err)
		}
	}
	for _, p := range r.inbox {
		switch {
		case p.Type == mqttwire.Disconnect:
			r.violate("the server sent DISCONNECT 0x%02x", p.Code())
		case p.Type == mqttwire.Publish && p.Topic == protocol.JobsNotifyNext(r.t.Thing):
			r.checkMessage(p)
		}
		if p.Type == mqttwire.Publish && p.QoS == 1 {
			_ = r.write(mqttwire.Packet{Type: mqttwire.Puback, ID: p.ID})
		}
	}
	if r.conn != nil {
		_ = r.write(mqttwire.Packet{Type: mqttwire.Disconnect})
	}
	return nil
}
