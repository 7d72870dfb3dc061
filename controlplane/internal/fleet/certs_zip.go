package fleet

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"time"
)

// certsZip makes the archive of cdf-services §3.11: the directory entry certs/,
// the certificate, and the key if there is one. Both are PEM.
func certsZip(certificate, key string, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	add := func(name string, mode fs.FileMode, data []byte) error {
		h := &zip.FileHeader{Name: name, Method: zip.Store, Modified: at.UTC()}
		if data != nil {
			h.Method = zip.Deflate
		}
		h.SetMode(mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	err := add("certs/", fs.ModeDir|0o700, nil)
	if err == nil {
		err = add("certs/cert.pem", 0o600, []byte(certificate))
	}
	if err == nil && key != "" {
		err = add("certs/private.key", 0o600, []byte(key))
	}
	if err != nil {
		return nil, fmt.Errorf("make certs.zip: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("make certs.zip: %w", err)
	}
	return out.Bytes(), nil
}
