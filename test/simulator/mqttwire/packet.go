package mqttwire

import (
	"encoding/binary"
	"strconv"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Versions of the protocol as they stand in CONNECT.
const (
	V311 byte = 4
	V5   byte = 5
)

// Type is the kind of a packet.
type Type byte

// The packet types a device meets.
const (
	Connect     Type = 1
	Connack     Type = 2
	Publish     Type = 3
	Puback      Type = 4
	Subscribe   Type = 8
	Suback      Type = 9
	Unsubscribe Type = 10
	Unsuback    Type = 11
	Pingreq     Type = 12
	Pingresp    Type = 13
	Disconnect  Type = 14
)

// String returns the name as the standard writes it.
func (t Type) String() string {
	switch t {
	case Connect:
		return "CONNECT"
	case Connack:
		return "CONNACK"
	case Publish:
		return "PUBLISH"
	case Puback:
		return "PUBACK"
	case Subscribe:
		return "SUBSCRIBE"
	case Suback:
		return "SUBACK"
	case Unsubscribe:
		return "UNSUBSCRIBE"
	case Unsuback:
		return "UNSUBACK"
	case Pingreq:
		return "PINGREQ"
	case Pingresp:
		return "PINGRESP"
	case Disconnect:
		return "DISCONNECT"
	}
	return "packet type " + strconv.Itoa(int(t))
}

// Packet is one packet; which fields count depends on Type.
type Packet struct {
	Type Type
	ID   uint16 // PUBLISH with QoS 1, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK
	Size int    // bytes on the wire, set by Read

	ClientID   string // CONNECT
	Username   string // CONNECT; empty: no user name flag
	CleanStart bool   // CONNECT
	KeepAlive  uint16 // CONNECT, seconds
	WillTopic  string // CONNECT; empty: no will
	Will       []byte // CONNECT, sent with QoS 1

	SessionPresent bool   // CONNACK
	Codes          []byte // CONNACK, PUBACK, SUBACK, UNSUBACK, DISCONNECT

	Topic       string // PUBLISH
	Payload     []byte // PUBLISH
	QoS         byte   // PUBLISH: 0 or 1
	Dup, Retain bool   // PUBLISH

	Filters []string // SUBSCRIBE (each with QoS 1), UNSUBSCRIBE

	Props Properties // version 5
}

// Properties are those a device acts on. Zero means absent.
type Properties struct {
	SessionExpiry     uint32
	ReceiveMaximum    uint16
	MaximumPacketSize uint32
	ServerKeepAlive   uint16
	TopicAlias        uint16
	ReasonString      string
}

// Code returns the packet's first reason code, 0 (success) when it has none.
func (p Packet) Code() byte {
	if len(p.Codes) == 0 {
		return 0
	}
	return p.Codes[0]
}

// Append encodes a packet that a client sends and adds it to dst. Its errors
// are fault.Invalid.
func Append(dst []byte, p Packet, version byte) ([]byte, error) {
	body := make([]byte, 0, 64+len(p.Topic)+len(p.Payload))
	flags := byte(0)
	switch p.Type {
	case Connect:
		body = appendConnect(body, p, version)
	case Publish:
		flags = p.QoS << 1
		if p.Dup {
			flags |= 8
		}
		if p.Retain {
			flags |= 1
		}
		body = appendString(body, p.Topic)
		if p.QoS > 0 {
			body = binary.BigEndian.AppendUint16(body, p.ID)
		}
		body = noProperties(body, version)
		body = append(body, p.Payload...)
	case Puback:
		body = binary.BigEndian.AppendUint16(body, p.ID)
	case Subscribe:
		flags = 2
		body = binary.BigEndian.AppendUint16(body, p.ID)
		body = noProperties(body, version)
		for _, f := range p.Filters {
			body = append(appendString(body, f), 1)
		}
	case Unsubscribe:
		flags = 2
		body = binary.BigEndian.AppendUint16(body, p.ID)
		body = noProperties(body, version)
		for _, f := range p.Filters {
			body = appendString(body, f)
		}
	case Pingreq:
	case Disconnect:
		if version == V5 {
			body = append(body, p.Code())
		}
	case Connack, Suback, Unsuback, Pingresp:
		return dst, fault.New(fault.Invalid, "a client does not send %s", p.Type)
	default:
		return dst, fault.New(fault.Invalid, "packet type %d is unknown", p.Type)
	}
	dst = append(dst, byte(p.Type)<<4|flags)
	dst = binary.AppendUvarint(dst, uint64(len(body))) // MQTT's variable byte integer is LEB128 as well
	return append(dst, body...), nil
}

func appendConnect(b []byte, p Packet, version byte) []byte {
	b = append(appendString(b, "MQTT"), version)
	flags := byte(0)
	if p.CleanStart {
		flags |= 0x02
	}
	if p.Username != "" {
		flags |= 0x80
	}
	if p.WillTopic != "" {
		flags |= 0x04 | 1<<3
	}
	b = binary.BigEndian.AppendUint16(append(b, flags), p.KeepAlive)
	if version == V5 {
		var props []byte
		if p.Props.SessionExpiry > 0 {
			props = binary.BigEndian.AppendUint32(append(props, 0x11), p.Props.SessionExpiry)
		}
		if p.Props.ReceiveMaximum > 0 {
			props = binary.BigEndian.AppendUint16(append(props, 0x21), p.Props.ReceiveMaximum)
		}
		if p.Props.MaximumPacketSize > 0 {
			props = binary.BigEndian.AppendUint32(append(props, 0x27), p.Props.MaximumPacketSize)
		}
		b = append(binary.AppendUvarint(b, uint64(len(props))), props...)
	}
	b = appendString(b, p.ClientID)
	if p.WillTopic != "" {
		b = appendString(noProperties(b, version), p.WillTopic)
		b = appendString(b, string(p.Will))
	}
	if p.Username != "" {
		b = appendString(b, p.Username)
	}
	return b
}

func noProperties(b []byte, version byte) []byte {
	if version == V5 {
		return append(b, 0)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) //nolint:gosec // topics and ids are far below 64 KB
}
