package credential

import (
	"archive/zip"
	"bytes"
	"io"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxPEM bounds a certificate or key file, in bytes.
const MaxPEM = 64 << 10

const maxZipEntries = 32

// ReadCertsZip reads certs.zip (cdf-services §3.11): certs/cert.pem and
// certs/private.key. Errors are of kind fault.Invalid.
func ReadCertsZip(b []byte) (cert, key []byte, err error) {
	zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "certs.zip is not a zip: %v", err)
	}
	if len(zr.File) > maxZipEntries {
		return nil, nil, fault.New(fault.Invalid, "certs.zip has %d entries, at most %d are allowed", len(zr.File), maxZipEntries)
	}
	for _, want := range []struct {
		name string
		into *[]byte
	}{{"certs/cert.pem", &cert}, {"certs/private.key", &key}} {
		for _, f := range zr.File {
			if f.Name != want.name {
				continue
			}
			if *want.into, err = readEntry(f); err != nil {
				return nil, nil, fault.New(fault.Invalid, "certs.zip is damaged at %s: %v", f.Name, err)
			}
		}
		if len(*want.into) == 0 {
			return nil, nil, fault.New(fault.Invalid, "certs.zip lacks %s", want.name)
		}
	}
	return cert, key, nil
}

func readEntry(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxPEM+1))
	if err == nil && len(b) > MaxPEM {
		err = fault.New(fault.TooLarge, "more than %d bytes", MaxPEM)
	}
	return b, err
}
