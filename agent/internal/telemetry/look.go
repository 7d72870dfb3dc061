package telemetry

import (
	"io"
	"io/fs"
	"strings"
)

// Look returns how many bytes of reports lie in the spool in dir below root, and
// how many reports were given up over the life of the device. It only reads, and
// may be called beside the agent whose spool it is.
func Look(root fs.FS, dir string) (bytes int64, dropped uint64) {
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return 0, 0
	}
	var newest string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), segmentSuffix) {
			continue
		}
		bytes += info.Size()
		newest = max(newest, e.Name()) // names begin with the sequence, in as many digits
	}
	if newest == "" {
		return bytes, 0
	}
	f, err := root.Open(dir + "/" + newest)
	if err != nil {
		return bytes, 0
	}
	defer f.Close() //nolint:errcheck // read only
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(f, b); err != nil {
		return bytes, 0
	}
	h, _ := parseHeader(b)
	return bytes, h.dropped
}
