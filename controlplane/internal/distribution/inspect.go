package distribution

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"io"
	"os"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// inspect looks whether f begins as an archive of its format does, so that a
// mistaken upload is refused here and not by every agent.
func inspect(f *os.File, size int64, u Upload) (nucleus.Manifest, error) {
	m := nucleus.Manifest{Name: u.Name, Version: u.Version, Runtime: simulated}
	var err error
	if u.Format == "zip" {
		_, err = zip.NewReader(f, size)
	} else if _, err = f.Seek(0, io.SeekStart); err == nil {
		var z *gzip.Reader
		if z, err = gzip.NewReader(f); err == nil {
			_, err = tar.NewReader(z).Next()
		}
	}
	if err != nil {
		return m, fault.New(fault.Invalid, "the archive is no %s: %v", u.Format, err)
	}
	return m, nil
}
