package fleet

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"time"
)

type zipFile struct {
	name string
	data []byte
}

// certsZip makes the archive of cdf-services §3.11: the directory entry certs/,
// then the files.
func certsZip(files []zipFile, at time.Time) ([]byte, error) {
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
	if err := add("certs/", fs.ModeDir|0o700, nil); err != nil {
		return nil, fmt.Errorf("make certs.zip: %w", err)
	}
	for _, f := range files {
		if err := add(f.name, 0o600, f.data); err != nil {
			return nil, fmt.Errorf("make certs.zip: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("make certs.zip: %w", err)
	}
	return out.Bytes(), nil
}
