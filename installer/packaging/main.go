// Command packaging makes what a release of the agent consists of: for each
// platform the binary and its packages, the install scripts, and SHA256SUMS over
// all of it. Made twice of the same sources, the bytes are the same. It runs at
// the top of the repository; 'make package' calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/installer/signed"
)

// maxBinary is what a binary of the agent may have in bytes: it must fit small
// devices.
const maxBinary = 15 << 20

// settings is what a run works on.
type settings struct {
	version  string
	out      string
	only     string // stem of the platform; empty: all
	nfpm     string // program; empty: no deb and rpm
	key      []byte // minisign secret key to sign with; empty: unsigned
	password string // of the key
	time     time.Time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s settings
	flag.StringVar(&s.version, "version", "", "semantic `version` of the release, without v")
	flag.StringVar(&s.out, "out", "dist", "`folder` to write; it is made anew")
	flag.StringVar(&s.only, "only", "", "one platform only, as in linux_amd64")
	flag.StringVar(&s.nfpm, "nfpm", "", "nfpm `program`; without it there is no deb and rpm")
	key := flag.String("key", "", "minisign secret key `file` to sign binaries and SHA256SUMS with; its password is taken from GGFLEET_KEY_PASSWORD")
	flag.Parse()
	if *key != "" {
		var err error
		if s.key, err = os.ReadFile(*key); err != nil {
			return err
		}
		s.password = os.Getenv("GGFLEET_KEY_PASSWORD")
	}
	return s.run(ctx)
}

// semver without build metadata: packages order versions by the rest.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func (s settings) run(ctx context.Context) error {
	if !semver.MatchString(s.version) {
		return fmt.Errorf("-version %q: want a semantic version as in 1.2.3 or 1.2.3-rc.1", s.version)
	}
	var err error
	if s.time, err = sourceTime(ctx); err != nil {
		return err
	}
	if err := empty(s.out); err != nil {
		return err
	}
	found := false
	for _, p := range platforms {
		if s.only != "" && s.only != p.name() {
			continue
		}
		found = true
		if err := s.platform(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
	}
	if !found {
		return fmt.Errorf("-only %q: there is no such platform", s.only)
	}
	for _, script := range []string{"install.sh", "install.ps1"} {
		b, err := os.ReadFile(filepath.Join("installer", "scripts", script))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.out, script), b, 0o755); err != nil { //nolint:gosec // a script to be run
			return err
		}
	}
	if err := writeSums(s.out); err != nil {
		return err
	}
	return s.sign(filepath.Join(s.out, sumsName), func(r io.Reader) ([]byte, error) {
		return signed.SignFile(s.key, s.password, r, sumsName+" of "+program+" "+s.version)
	})
}

// sign writes the signature of a file beside it, if there is a key.
func (s settings) sign(name string, sign func(io.Reader) ([]byte, error)) error {
	if len(s.key) == 0 {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	signature, err := sign(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("signing %s: %w", name, err)
	}
	return os.WriteFile(name+".minisig", signature, 0o644) //nolint:gosec // everybody may read it
}

// sourceTime is the time that everything in the packages has: SOURCE_DATE_EPOCH,
// or that of the last commit.
func sourceTime(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		b, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("asking git for the time of the last commit: %w; set SOURCE_DATE_EPOCH", err)
		}
		text = strings.TrimSpace(string(b))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// empty makes dir an empty folder. It refuses one that holds something else than
// a release.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, program+"_") && !strings.HasPrefix(name, "install.") && !strings.HasPrefix(name, sumsName) {
			return fmt.Errorf("%s holds %s, which is not part of a release: name another folder with -out", dir, name)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755) //nolint:gosec // a release is for everybody
}
