package nucleus

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// checkIdentity looks at the files that the configuration names.
func checkIdentity(sys System, f Facts, pkcs8 bool) error {
	for _, file := range []struct{ field, name string }{
		{"system.certificateFilePath", f.Certificate}, {"system.privateKeyPath", f.Key}, {"system.rootCaPath", f.RootCA},
	} {
		if file.name == "" || strings.HasPrefix(file.name, "pkcs11:") {
			continue
		}
		b, err := sys.ReadFile(file.name)
		if errors.Is(err, fs.ErrNotExist) {
			return fault.Field("config."+file.field, "%s is not there; put it there first", file.name)
		}
		if err != nil {
			return err
		}
		if !bytes.Contains(b, []byte("-----BEGIN ")) {
			return fault.Field("config."+file.field, "%s is not PEM", file.name)
		}
		if pkcs8 && bytes.Contains(b, []byte("-----BEGIN EC PRIVATE KEY")) {
			return fault.Field("config."+file.field, "%s is an EC key in SEC1 form, which classic cannot load; write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW", file.name)
		}
	}
	return nil
}
