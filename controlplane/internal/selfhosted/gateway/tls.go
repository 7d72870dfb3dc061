package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// identifyTimeout bounds one look into the registry during a handshake.
const identifyTimeout = 5 * time.Second

// Certificate chooses the server certificate for a handshake.
type Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// MQTTConfig makes the TLS configuration of the MQTT listener: any client
// certificate is asked for, and the registry decides about it in every
// handshake, resumed ones included. Classic offers x-amzn-mqtt-ca on every port
// (nucleus-contract trap 1).
func MQTTConfig(ids Identities, cert Certificate) *tls.Config {
	c := baseConfig(cert)
	c.ClientAuth = tls.RequireAnyClientCert
	c.NextProtos = mqttProtocols()
	c.VerifyConnection = func(cs tls.ConnectionState) error { return admitPeer(ids, cs) }
	return c
}

// HTTPConfig makes the TLS configuration of the device HTTPS listener. A client
// certificate is optional there: enrolment comes without one, and [AdmitHTTP]
// looks at each request. A certificate that the registry refuses ends the
// handshake. To a client that offers only names of others, x-amzn-http-ca above
// all, no name is answered, and it speaks HTTP/1.1: a net/http server closes a
// connection whose negotiated name it has no handler for.
func HTTPConfig(ids Identities, cert Certificate) *tls.Config {
	c := baseConfig(cert)
	c.ClientAuth = tls.RequestClientCert
	c.NextProtos = []string{"h2", "http/1.1"}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		if err := admitPeer(ids, cs); fault.Permanent(err) {
			return err
		}
		return nil // the registry is away: each request asks again and says so
	}
	nameless := c.Clone()
	nameless.NextProtos = nil
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) == 0 || slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(c.NextProtos, p) }) {
			return nil, nil
		}
		return nameless, nil
	}
	return c
}

func baseConfig(cert Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert}
}

// admitPeer has no context to go by: crypto/tls gives this callback none.
func admitPeer(ids Identities, cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no client certificate")
	}
	ctx, cancel := context.WithTimeout(context.Background(), identifyTimeout)
	defer cancel()
	if _, err := ids.Identify(ctx, cs.PeerCertificates[0]); err != nil {
		return fmt.Errorf("admit client certificate: %w", err)
	}
	return nil
}
