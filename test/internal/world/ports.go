package world

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// port is one for TCP that this process keeps from all others that take theirs
// here, also while nobody listens on it: it holds the UDP port of the number.
type port struct {
	addr string
	hold net.PacketConn
}

// takePort takes a port below those that a system gives to clients: while whoever
// is to listen is down, it shall not become a client's.
func takePort(host string) port {
	for {
		addr := net.JoinHostPort(host, strconv.Itoa(10000+rand.IntN(22000)))
		hold, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			_ = hold.Close()
			continue
		}
		_ = l.Close()
		return port{addr, hold}
	}
}

func (p port) free() { _ = p.hold.Close() }

// Port is a host:port of this machine that stays the test's until its end, for a
// server that is started and stopped on it.
func Port(t testing.TB) string {
	t.Helper()
	p := takePort("127.0.0.1")
	t.Cleanup(p.free)
	return p.addr
}
