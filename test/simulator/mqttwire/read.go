package mqttwire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// ErrTooLarge is returned by Read for a packet over the limit; nothing of its
// body has been read, so the connection is of no further use.
var ErrTooLarge = errors.New("packet is over the maximum size that this client announced")

var errShort = fault.New(fault.Invalid, "packet ends early")

// Read reads one packet that a server sends. limit is the largest size of a
// whole packet in bytes.
func Read(r *bufio.Reader, version byte, limit int) (Packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return Packet{}, err
	}
	n, lengthBytes, err := readLength(r)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{Type: Type(first >> 4), Size: 1 + lengthBytes + n}
	if p.Size > limit {
		return p, ErrTooLarge
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return Packet{}, err
	}
	d := decoder{b: body, version: version}
	d.packet(&p, first&0x0f)
	return p, d.err
}

func readLength(r *bufio.Reader) (n, count int, err error) {
	for shift := 0; shift < 28; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		count++
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, count, nil
		}
	}
	return 0, 0, fault.New(fault.Invalid, "packet length has more than four bytes")
}

// decoder takes values off the front of b until one is missing.
type decoder struct {
	b       []byte
	version byte
	err     error
}

func (d *decoder) packet(p *Packet, flags byte) {
	switch p.Type {
	case Connack:
		p.SessionPresent = d.byte()&1 == 1
		p.Codes = []byte{d.byte()}
		d.properties(&p.Props)
	case Publish:
		p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
		p.Topic = d.text()
		if p.QoS > 1 {
			d.err = fault.New(fault.Invalid, "PUBLISH with QoS %d", p.QoS)
		}
		if p.QoS == 1 {
			p.ID = d.uint16()
		}
		d.properties(&p.Props)
		p.Payload = d.b
	case Puback:
		p.ID = d.uint16()
		if len(d.b) > 0 {
			p.Codes = []byte{d.byte()}
		}
		if len(d.b) > 0 {
			d.properties(&p.Props)
		}
	case Suback, Unsuback:
		p.ID = d.uint16()
		d.properties(&p.Props)
		p.Codes = d.b
	case Pingresp:
	case Disconnect:
		if len(d.b) > 0 {
			p.Codes = []byte{d.byte()}
		}
		if len(d.b) > 0 {
			d.properties(&p.Props)
		}
	case Connect, Subscribe, Unsubscribe, Pingreq:
		d.err = fault.New(fault.Invalid, "a server does not send %s", p.Type)
	default:
		d.err = fault.New(fault.Invalid, "packet type %d is unknown", p.Type)
	}
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && n > len(d.b) {
		d.err = errShort
	}
	if d.err != nil {
		return make([]byte, min(n, 8))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) text() string {
	n := int(d.uint16())
	if d.err != nil || n > len(d.b) {
		d.err = errShort
		return ""
	}
	return string(d.take(n))
}

func (d *decoder) varint() int {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b := d.byte()
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	d.err = fault.New(fault.Invalid, "a length has more than four bytes")
	return 0
}

// properties reads the property block of version 5; the ones that nothing here
// acts on are skipped by their width.
func (d *decoder) properties(p *Properties) {
	if d.version != V5 || d.err != nil {
		return
	}
	n := d.varint()
	if d.err != nil || n > len(d.b) {
		d.err = errShort
		return
	}
	sub := decoder{b: d.take(n), version: d.version}
	for len(sub.b) > 0 && sub.err == nil {
		sub.property(p)
	}
	if sub.err != nil {
		d.err = sub.err
	}
}

func (d *decoder) property(p *Properties) {
	switch id := d.byte(); id {
	case 0x11:
		p.SessionExpiry = d.uint32()
	case 0x13:
		p.ServerKeepAlive = d.uint16()
	case 0x1f:
		p.ReasonString = d.text()
	case 0x21:
		p.ReceiveMaximum = d.uint16()
	case 0x23:
		p.TopicAlias = d.uint16()
	case 0x27:
		p.MaximumPacketSize = d.uint32()
	case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a:
		d.byte()
	case 0x22:
		d.uint16()
	case 0x02, 0x18:
		d.uint32()
	case 0x0b:
		d.varint()
	case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c:
		_ = d.text()
	case 0x26:
		_, _ = d.text(), d.text()
	default:
		d.err = fault.New(fault.Invalid, "property 0x%02x is unknown", id)
	}
}
