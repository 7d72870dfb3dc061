package deviceapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Device returns what is to be made true on the client device.
func (c *Client) Device(ctx context.Context, q protocol.AssignmentQuery) (protocol.DeviceAssignment, error) {
	var out protocol.DeviceAssignment
	return out, c.callJSON(ctx, http.MethodGet, q.DevicePath(), nil, &out)
}

// DeviceCertificate has the client device's CSR signed.
func (c *Client) DeviceCertificate(ctx context.Context, csr string) (string, error) {
	return c.sign(ctx, protocol.PathDeviceCertificate, protocol.CSRRequest{CSR: csr})
}

// DeviceCerts returns the client device's certs.zip.
func (c *Client) DeviceCerts(ctx context.Context) ([]byte, error) {
	return c.call(ctx, http.MethodGet, protocol.PathDeviceCerts, nil)
}

// Discover returns where the cores of thing are. The client must show the
// certificate of thing itself. fault.NotFound: it is a client device of none.
func (c *Client) Discover(ctx context.Context, thing string) (protocol.Discovery, error) {
	var out protocol.Discovery
	return out, c.callJSON(ctx, http.MethodGet, protocol.PathDiscover+url.PathEscape(thing), nil, &out)
}
