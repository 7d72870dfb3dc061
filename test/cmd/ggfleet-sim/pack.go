package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// entrypoint is where the program lies in the archive.
const entrypoint = "bin/ggfleet-sim"

// runPack writes the archive and prints its digest.
func runPack(args []string, out, errOut io.Writer) error {
	f := flag.NewFlagSet("pack", flag.ContinueOnError)
	file := f.String("out", "", "archive to write (mandatory)")
	version := f.String("version", "", "version of the distribution (mandatory)")
	program := f.String("program", "", "ggfleet-sim binary to pack; default: this one")
	layout := f.String("layout", "program", "what the archive looks like: program, or exactly as AWS's: classic (zip; needs ggfleet-sim as java on the device), lite (tar.gz of programs and units), lite-deb, lite-zip (the deb in a zip)")
	broken := f.String("broken", "", "of another layout than program: exit (ends at once), hang (runs, never connects), setup (classic's installer fails)")
	if err := parse(f, args, errOut); err != nil {
		return err
	}
	if *file == "" || *version == "" {
		return fault.New(fault.Invalid, "pack: --out and --version are mandatory")
	}
	if *program == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		*program = self
	}
	var digest string
	var err error
	if *layout == "program" {
		digest, err = pack(*file, *version, *program)
	} else {
		digest, err = packLayout(*file, *layout, *version, *program, *broken)
	}
	if err != nil {
		return fmt.Errorf("packing %s: %w", *file, err)
	}
	_, err = fmt.Fprintln(out, digest)
	return err
}

// pack writes program as a nucleus distribution to file and returns the
// archive's SHA-256 in lower-case hex. The same program and version give the same
// bytes. file appears whole or not at all.
func pack(file, version, program string) (digest string, err error) {
	manifest, err := json.Marshal(nucleus.Manifest{
		Name: "ggfleet.SimulatedNucleus", Version: version, Runtime: "simulated", Entrypoint: entrypoint,
		Args: []string{"nucleus", "--root", nucleus.PlaceRoot}, StateFile: "state/components.json", ReadyFile: "state/ready",
	})
	if err != nil {
		return "", fmt.Errorf("encoding the manifest: %w", err)
	}
	if _, err := nucleus.ParseManifest(manifest); err != nil {
		return "", err
	}
	bin, err := os.Open(program)
	if err != nil {
		return "", fmt.Errorf("opening the program: %w", err)
	}
	defer func() { _ = bin.Close() }()
	info, err := bin.Stat()
	if err != nil {
		return "", fmt.Errorf("reading the program: %w", err)
	}

	tmp, err := os.CreateTemp(filepath.Dir(file), ".pack-*")
	if err != nil {
		return "", fmt.Errorf("making the archive: %w", err)
	}
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name()) // gone already after success
	}()
	sum := sha256.New()
	zw, err := gzip.NewWriterLevel(io.MultiWriter(tmp, sum), gzip.BestCompression)
	if err != nil {
		return "", fmt.Errorf("making the archive: %w", err)
	}
	tw := tar.NewWriter(zw)
	add := func(name string, mode, size int64, r io.Reader) error {
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
		if err == nil {
			_, err = io.CopyN(tw, r, size)
		}
		return err
	}
	if err := add(nucleus.ManifestName, 0o644, int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
		return "", fmt.Errorf("adding the manifest: %w", err)
	}
	if err := add(entrypoint, 0o755, info.Size(), bin); err != nil {
		return "", fmt.Errorf("adding the program: %w", err)
	}
	for _, finish := range []func() error{tw.Close, zw.Close, tmp.Sync, tmp.Close, func() error { return os.Chmod(tmp.Name(), 0o644) }} { //nolint:gosec // a distribution is public
		if err := finish(); err != nil {
			return "", fmt.Errorf("writing the archive: %w", err)
		}
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return "", fmt.Errorf("putting the archive in place: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
