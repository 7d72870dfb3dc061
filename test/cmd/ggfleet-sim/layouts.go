package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
	"github.com/ggfleet/ggfleet/shared/fault"
)

//go:embed loader.sh
var loader []byte

// jar is what stands in the place of lib/Greengrass.jar: what the java of this
// program needs to know.
type jar struct {
	Version string `json:"version"`
	Broken  string `json:"broken,omitempty"`
}

// Ways to be broken.
const (
	brokenExit  = "exit"
	brokenHang  = "hang"
	brokenSetup = "setup"
)

// Places of lite's programs: of the package, and of the bare files.
const (
	packagePrefix = "/usr/bin"
	filesPrefix   = "/usr/local/bin"
)

// packLayout writes an archive in the layout of a real nucleus and returns its
// SHA-256.
func packLayout(file, layout, version, program, broken string) (string, error) {
	if !slices.Contains([]string{"", brokenExit, brokenHang, brokenSetup}, broken) {
		return "", fault.New(fault.Invalid, "broken %q, want exit, hang or setup", broken)
	}
	var b []byte
	switch layout {
	case "classic":
		content, err := json.Marshal(jar{version, broken})
		if err != nil {
			return "", err
		}
		b = standin.Zip(standin.ClassicFiles(version, content, loader))
	case "lite", "lite-deb", "lite-zip":
		binary, err := os.ReadFile(program)
		if err != nil {
			return "", fmt.Errorf("reading the program: %w", err)
		}
		if layout == "lite" {
			b = standin.LiteTarGz(version, liteFiles(filesPrefix, broken, binary))
			break
		}
		b = standin.LiteDeb(version, standin.Architecture(), "", liteFiles(packagePrefix, broken, binary))
		if layout == "lite-zip" {
			b = standin.LiteZip(version, b)
		}
	default:
		return "", fault.New(fault.Invalid, "layout %q, want program, classic, lite, lite-deb or lite-zip", layout)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), durable.WriteFileAt(file, b, 0o644)
}

// liteFiles are lite's: this program once, and a script for each of lite's that
// calls it.
func liteFiles(prefix, broken string, binary []byte) []standin.File {
	files := standin.LiteFiles(prefix, nil)
	for i, f := range files {
		if path.Dir(f.Name) == "usr/bin" {
			files[i].Data = fmt.Appendf(nil, "#!/bin/sh\nexec %s/ggl-sim lite --broken=%s %s \"$@\"\n", prefix, broken, path.Base(f.Name))
		}
	}
	return append(files, standin.File{Name: "usr/bin/ggl-sim", Data: binary, Mode: 0o755})
}
