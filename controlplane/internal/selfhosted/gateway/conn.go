package gateway

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// lastWrite is how long a connection that is being ended may take to accept its
// last bytes.
const lastWrite = 300 * time.Millisecond

// conn is the connection as the broker library sees it.
type conn struct {
	*tls.Conn
	session *session
	write   time.Duration
	ending  atomic.Bool
}

// SetDeadline sets the deadline for reading alone: the library uses it for the
// keep-alive and would let one write take as long (its defect 4).
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Write gives up on a device that does not take its bytes, and closes: the
// library only logs a failed write, while holding the lock that publishers need.
func (c *conn) Write(b []byte) (int, error) {
	d := c.write
	if c.ending.Load() {
		d = lastWrite
	}
	_ = c.SetWriteDeadline(time.Now().Add(d)) // fails on a closed connection, as Write will
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// hurry lets a write in progress end soon.
func (c *conn) hurry() {
	c.ending.Store(true)
	_ = c.SetWriteDeadline(time.Now().Add(lastWrite))
}
