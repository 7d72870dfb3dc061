package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/ggfleet/ggfleet/installer/signed"
)

const (
	program = "ggfleet-agent"
	command = "./agent/cmd/ggfleet-agent"
	stamp   = "-s -w -X github.com/ggfleet/ggfleet/shared/buildinfo.Version="
)

// platform is one that the agent is released for. Files are named as Go names
// platforms; linux_arm is ARMv7 with floating point.
type platform struct {
	os, arch string
	packages string // the architecture in the words of nfpm; empty: no deb and rpm
}

var platforms = []platform{ //nolint:gochecknoglobals // a table that does not change
	{"linux", "amd64", "amd64"},
	{"linux", "arm64", "arm64"},
	{"linux", "arm", "arm7"},
	{"darwin", "amd64", ""},
	{"darwin", "arm64", ""},
	{"windows", "amd64", ""},
	{"windows", "arm64", ""},
}

func (p platform) name() string { return p.os + "_" + p.arch }

// platform makes all files of p.
func (s settings) platform(ctx context.Context, p platform) error {
	stem := filepath.Join(s.out, program+"_"+s.version+"_"+p.name())
	binary := stem
	if p.os == "windows" {
		binary += ".exe"
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags=nomsgpack", "-ldflags", stamp+s.version, "-o", binary, command)
	build.Env = append(os.Environ(), "GOOS="+p.os, "GOARCH="+p.arch, "GOARM=7", "CGO_ENABLED=0", "GOFLAGS=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building: %w", err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	if info.Size() > maxBinary {
		return fmt.Errorf("the binary has %d bytes, more than %d", info.Size(), maxBinary)
	}
	err = s.sign(binary, func(r io.Reader) ([]byte, error) {
		return signed.Sign(s.key, s.password, r, signed.Statement{Version: s.version, Platform: p.os + "/" + p.arch})
	})
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	license, err := os.ReadFile("LICENSE")
	if err != nil {
		return err
	}
	files := []file{{program, 0o755, content}, {"LICENSE", 0o644, license}}
	if p.os == "windows" {
		files[0].name += ".exe"
		return writeTo(stem+".zip", s.zip(files))
	}
	if err := writeTo(stem+".tar.gz", s.tar(files)); err != nil {
		return err
	}
	if p.packages == "" || s.nfpm == "" {
		return nil
	}
	for _, format := range []string{"deb", "rpm"} {
		pack := exec.CommandContext(ctx, s.nfpm, "package", "--config", "installer/packaging/nfpm.yaml", "--packager", format, "--target", stem+"."+format)
		pack.Env = append(os.Environ(), "GGFLEET_VERSION="+s.version, "GGFLEET_ARCH="+p.packages, "GGFLEET_BINARY="+binary,
			"SOURCE_DATE_EPOCH="+strconv.FormatInt(s.time.Unix(), 10))
		if out, err := pack.CombinedOutput(); err != nil {
			return fmt.Errorf("packing %s: %w\n%s", format, err, out)
		}
	}
	return nil
}
