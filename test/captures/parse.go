package captures

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxFile is the largest capture that Parse reads, in bytes.
const MaxFile = 4 << 20

// Kind says what an entry of a capture is.
type Kind string

// The kinds of entry.
const (
	KindTLS      Kind = "tls"
	KindMQTT     Kind = "mqtt"
	KindRequest  Kind = "http request"
	KindResponse Kind = "http response"
	KindClosed   Kind = "closed"
)

// Script is one parsed capture.
type Script struct {
	Name    string
	Entries []Entry
}

// Entry is one thing that the tap saw.
type Entry struct {
	Line     int           // in the file, from 1
	Time     time.Duration // since midnight UTC
	Kind     Kind
	Core     bool   // the core's half
	Service  string // of HTTP: dataplane, credentials, artifacts-http
	Packet   *Packet
	Request  *Request
	Response *Response
}

// Packet is one decoded MQTT packet.
type Packet struct {
	Type      string // CONNECT, PUBLISH, …
	Size      int    // bytes on the wire
	ID        int    // 0: none
	Topic     string
	QoS       int
	Payload   []byte
	Filters   []string
	Codes     []int
	ClientID  string
	KeepAlive int
	MaxPacket int
	Raw       []byte // CONNECT only
}

// Request is one HTTP request whole.
type Request struct {
	Method, Path string
	Header       [][2]string
	Body         []byte
}

// Response is one HTTP response whole.
type Response struct {
	Status int
	Header [][2]string
	Body   []byte
}

var (
	headLine = regexp.MustCompile(`^\[(\d\d):(\d\d):(\d\d)\.(\d{3})\] (.+)$`)
	packetOf = regexp.MustCompile(`\(packet of (\d+) bytes\)$`)
	filterOf = regexp.MustCompile(`'([^' ]+)(?: options=[^']*)?'`)
)

// Parse reads a capture. Errors are fault.Invalid and name the line.
func Parse(name string, content []byte) (Script, error) {
	s := Script{Name: name}
	if len(content) > MaxFile {
		return s, fault.New(fault.TooLarge, "capture %s has %d bytes, at most %d", name, len(content), MaxFile)
	}
	lines := strings.Split(string(content), "\n")
	for i := 0; i < len(lines); {
		m := headLine.FindStringSubmatch(lines[i])
		if m == nil {
			if t := strings.TrimSpace(lines[i]); t != "" && !strings.HasPrefix(t, "====") {
				return s, fault.New(fault.Invalid, "capture %s line %d is neither head, mark nor content of an entry", name, i+1)
			}
			i++
			continue
		}
		end := i + 1
		for end < len(lines) && strings.HasPrefix(lines[end], "    ") {
			end++
		}
		body := make([]string, 0, end-i-1)
		for _, l := range lines[i+1 : end] {
			body = append(body, l[4:])
		}
		e, err := parseEntry(m, body)
		if err != nil {
			return s, fmt.Errorf("capture %s line %d: %w", name, i+1, err)
		}
		e.Line = i + 1
		s.Entries = append(s.Entries, e)
		i = end
	}
	return s, nil
}

func parseEntry(m, body []string) (Entry, error) {
	var e Entry
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second, time.Millisecond} {
		n, _ := strconv.Atoi(m[i+1]) // digits, by the pattern
		e.Time += time.Duration(n) * unit
	}
	head := m[5]
	if strings.HasPrefix(head, "TLS ") {
		e.Kind = KindTLS
		return e, nil
	}
	if service, ok := strings.CutPrefix(head, "HTTP "); ok {
		return parseHTTP(e, service, body)
	}
	e.Core = strings.HasPrefix(head, "MQTT core -> cloud")
	if !e.Core && !strings.HasPrefix(head, "MQTT cloud -> core") {
		return e, fault.New(fault.Invalid, "unknown entry %q", head)
	}
	if strings.HasSuffix(head, " closed") {
		e.Kind = KindClosed
		return e, nil
	}
	size := packetOf.FindStringSubmatch(head)
	if size == nil || len(body) == 0 {
		return e, fault.New(fault.Invalid, "an MQTT entry without size or packet")
	}
	e.Kind = KindMQTT
	p, err := parsePacket(body)
	if err != nil {
		return e, err
	}
	p.Size, err = strconv.Atoi(size[1])
	e.Packet = p
	return e, err
}

func parsePacket(body []string) (*Packet, error) {
	line := body[0]
	p := &Packet{Type: strings.SplitN(line, " ", 2)[0]}
	number := func(key string) int {
		_, rest, ok := strings.Cut(line, key+"=")
		if !ok {
			return 0
		}
		end := 0
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		n, _ := strconv.Atoi(rest[:end]) // None and the like are 0
		return n
	}
	p.ID, p.QoS, p.KeepAlive, p.MaxPacket = number(" mid"), number(" qos"), number("keepAlive"), number("maximumPacketSize")
	switch p.Type {
	case "CONNECT":
		_, rest, _ := strings.Cut(line, "clientId=")
		p.ClientID = strings.SplitN(rest, " ", 2)[0]
		if len(body) > 1 {
			if raw, ok := strings.CutPrefix(body[1], "raw: "); ok {
				p.Raw = []byte(raw)
			}
		}
	case "CONNACK", "PUBACK", "DISCONNECT":
		p.Codes = []int{number("reason")}
	case "SUBACK", "UNSUBACK":
		_, rest, _ := strings.Cut(line, "codes=[")
		for code := range strings.SplitSeq(strings.TrimSuffix(rest, "]"), ",") {
			n, err := strconv.Atoi(strings.TrimSpace(code))
			if err != nil {
				return nil, fault.New(fault.Invalid, "%s has the codes %q", p.Type, rest)
			}
			p.Codes = append(p.Codes, n)
		}
	case "SUBSCRIBE", "UNSUBSCRIBE":
		_, rest, _ := strings.Cut(line, "filters=")
		for _, f := range filterOf.FindAllStringSubmatch(rest, -1) {
			p.Filters = append(p.Filters, f[1])
		}
		if len(p.Filters) == 0 {
			return nil, fault.New(fault.Invalid, "%s without filter", p.Type)
		}
	case "PUBLISH":
		_, rest, _ := strings.Cut(line, "topic=")
		p.Topic = strings.SplitN(rest, " ", 2)[0]
		_, size, _ := strings.Cut(line, "payload(")
		n, err := strconv.Atoi(strings.SplitN(size, " ", 2)[0])
		p.Payload = []byte(strings.Join(body[1:], "\n"))
		if err != nil || len(p.Payload) != n || p.Topic == "" {
			return nil, fault.New(fault.Invalid, "PUBLISH on %q with %d bytes of payload, says %q", p.Topic, len(p.Payload), size)
		}
	case "PINGREQ", "PINGRESP":
	default:
		return nil, fault.New(fault.Invalid, "unknown packet %q", p.Type)
	}
	return p, nil
}

func parseHTTP(e Entry, head string, lines []string) (Entry, error) {
	service, what, _ := strings.Cut(head, " ")
	e.Service = strings.SplitN(service, ":", 2)[0]
	e.Core = what == "request"
	if len(lines) == 0 || what != "request" && what != "response" {
		return e, fault.New(fault.Invalid, "HTTP entry %q without content", head)
	}
	var header [][2]string
	var body []byte
	length := 0
	for i, l := range lines[1:] {
		if l == "" {
			body = []byte(strings.Join(lines[i+2:], "\n"))
			break
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return e, fault.New(fault.Invalid, "HTTP header %q", l)
		}
		value = strings.TrimSpace(value)
		header = append(header, [2]string{name, value})
		if strings.EqualFold(name, "Content-Length") {
			length, _ = strconv.Atoi(value)
		}
	}
	if len(body) == length-1 {
		body = append(body, '\n') // the tap writes lines
	}
	if length > 0 && len(body) != length {
		return e, fault.New(fault.Invalid, "HTTP body of %d bytes, says %d", len(body), length)
	}
	first := strings.Fields(lines[0])
	if len(first) < 2 {
		return e, fault.New(fault.Invalid, "HTTP start line %q", lines[0])
	}
	if e.Core {
		e.Kind = KindRequest
		e.Request = &Request{Method: first[0], Path: first[1], Header: header, Body: bytes.Clone(body)}
		return e, nil
	}
	status, err := strconv.Atoi(first[1])
	if err != nil {
		return e, fault.New(fault.Invalid, "HTTP status %q", first[1])
	}
	e.Kind = KindResponse
	e.Response = &Response{Status: status, Header: header, Body: bytes.Clone(body)}
	return e, nil
}
