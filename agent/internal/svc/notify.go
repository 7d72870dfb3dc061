package svc

import (
	"errors"
	"net"
	"os"
	"strings"
)

// Notify tells systemd about this process ("READY=1", "STOPPING=1",
// "WATCHDOG=1"). Without systemd it does nothing.
func Notify(state string) error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(addr, "@"); ok {
		addr = "\x00" + rest // a name in the abstract namespace
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}
