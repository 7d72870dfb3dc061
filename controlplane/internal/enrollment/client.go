package enrollment

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// DeviceAssignment is what the agent of a client device is to make true.
func (s *Service) DeviceAssignment(ctx context.Context, device string) (protocol.DeviceAssignment, error) {
	d, err := s.cfg.Devices.EnrollDevice(ctx, device)
	if err != nil {
		return protocol.DeviceAssignment{}, err
	}
	return protocol.DeviceAssignment{
		Device: d.Name, HasCertificate: !d.CertificatePending, CertsZip: d.CertsKey != "", CAPEM: s.cfg.CAPEM,
		MQTTAddress: s.cfg.MQTTAddress, HTTPSURL: s.cfg.HTTPSURL, Core: d.Core,
	}, nil
}

// DeviceCertificate is Certificate for a client device.
func (s *Service) DeviceCertificate(ctx context.Context, device, csr string) (protocol.CSRResponse, error) {
	if d, err := s.cfg.Devices.EnrollDevice(ctx, device); err != nil || !d.CertificatePending {
		if err != nil {
			return protocol.CSRResponse{}, err
		}
		return s.reissue(ctx, device, csr)
	}
	pem, err := s.cfg.Devices.CompleteDevice(ctx, device, csr)
	return protocol.CSRResponse{CertificatePEM: pem}, err
}

// DeviceCerts opens the client device's certs.zip, or returns fault.NotFound; the
// caller closes the reader.
func (s *Service) DeviceCerts(ctx context.Context, device string) (object.Reader, object.Info, error) {
	d, err := s.cfg.Devices.EnrollDevice(ctx, device)
	if err != nil {
		return nil, object.Info{}, err
	}
	if d.CertsKey == "" {
		return nil, object.Info{}, fault.New(fault.NotFound, "client device %s has no certs.zip: its key was made on the device", device)
	}
	return s.cfg.Objects.Open(ctx, d.CertsKey)
}
