package mqttlink

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"golang.org/x/net/proxy"
)

// dial opens a connection without TCP's own keep-alives, which Go sends every 15
// seconds: MQTT's do the same work, and those of TCP would be most of what an
// idle agent puts on the line. A SOCKS proxy of the environment is used.
func dial(ctx context.Context, cfg autopaho.ClientConfig, u *url.URL) (net.Conn, error) {
	var conn net.Conn
	var err error
	through := proxy.FromEnvironmentUsing(&net.Dialer{KeepAlive: -1})
	if d, ok := through.(proxy.ContextDialer); ok {
		conn, err = d.DialContext(ctx, "tcp", u.Host)
	} else {
		conn, err = through.Dial("tcp", u.Host)
	}
	if err != nil {
		return nil, err
	}
	config := cfg.TlsCfg
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = u.Hostname()
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return packets.NewThreadSafeConn(secure), nil
}
