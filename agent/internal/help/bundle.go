package help

import (
	"archive/zip"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	bundleBytes = 48 << 20 // of all entries together, before they are packed
	bundleLogs  = 40       // logs of components
	bundleLog   = 4 << 20  // the end of each log
)

// Bundle implements Device. It writes a zip with what is on the list below, and
// nothing else: an entry that cannot be made is left out, and manifest.txt says
// why.
func (h *Host) Bundle(ctx context.Context, w io.Writer) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	b := &bundle{zip: z, at: time.Now().UTC(), left: h.room}
	n := h.cfg.Nucleus()
	for _, e := range h.entries(n) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := b.add(ctx, e); err != nil {
			return err
		}
	}
	head := fmt.Sprintf("support bundle of %s\nagent %s, %s/%s\nmade at %s\nsecrets were taken out on the device\n\n",
		h.cfg.Root, h.cfg.Version, runtime.GOOS, runtime.GOARCH, b.at.Format(time.RFC3339))
	b.left += 64 << 10
	err := b.add(ctx, bundleEntry{"manifest.txt", func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, head+strings.Join(b.told, "\n")+"\n")
		return err
	}})
	return errors.Join(err, z.Close())
}

// bundleEntry is one file of a bundle.
type bundleEntry struct {
	name  string
	write func(ctx context.Context, w io.Writer) error
}

// entries is the list.
func (h *Host) entries(n Nucleus) []bundleEntry {
	var out []bundleEntry
	if h.cfg.Status != nil {
		out = append(out, bundleEntry{"status.txt", func(_ context.Context, w io.Writer) error { return h.cfg.Status(w) }})
	}
	for _, name := range protocol.Diagnostics() {
		out = append(out, bundleEntry{"diagnose/" + name + ".txt", func(ctx context.Context, w io.Writer) error { return h.Diagnose(ctx, name, w) }})
	}
	out = append(out, bundleEntry{"units.txt", func(ctx context.Context, w io.Writer) error {
		text, err := h.units(ctx)
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, text)
		return err
	}})
	for name, path := range h.configs(n) {
		out = append(out, bundleEntry{"config/" + name, func(_ context.Context, w io.Writer) error { return writeConfig(w, path) }})
	}
	logs := func(name, of, component string) {
		out = append(out, bundleEntry{"logs/" + name + ".log", func(ctx context.Context, w io.Writer) error {
			l, err := h.Log(of, component)
			if err != nil {
				return err
			}
			_, err = l.Tail(ctx, &capped{w, bundleLog}, protocol.MaxHelpLines, time.Time{})
			return err
		}})
	}
	logs("agent", protocol.HelpOfAgent, "")
	if n.Runtime == "" {
		return out
	}
	logs("nucleus", protocol.HelpOfNucleus, "")
	if n.Runtime != Lite {
		for _, c := range LogNames(filepath.Join(n.Root, "logs"), bundleLogs) {
			own := c == "agent" && n.Root == h.cfg.Root // kept beside those of a nucleus that is a process
			if protocol.HelpName(c) && c != "nucleus" && c != "greengrass" && !own {
				logs("components/"+c, protocol.HelpOfComponent, c)
			}
		}
	}
	return out
}

// configs are the files that the nucleus is configured by.
func (h *Host) configs(n Nucleus) map[string]string {
	switch n.Runtime {
	case "":
		return nil
	case Lite:
		return map[string]string{"lite.txt": filepath.Join(h.cfg.Etc, "config.yaml")}
	case Classic:
		return map[string]string{"effective.txt": filepath.Join(n.Root, "config", "effectiveConfig.yaml")}
	}
	return map[string]string{"nucleus.txt": filepath.Join(n.Root, "config", "config.yaml")}
}

// bundle is a zip that is being made.
type bundle struct {
	zip  *zip.Writer
	at   time.Time
	left int
	told []string
}

// add adds an entry. What it writes passes the scrubber, whatever it is. Only an
// error of the zip itself ends the bundle.
func (b *bundle) add(ctx context.Context, e bundleEntry) error {
	f, err := b.zip.CreateHeader(&zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: b.at})
	if err != nil {
		return err
	}
	var broken error
	room := &budget{w: f, left: &b.left, broken: &broken}
	lines := &scrubbing{w: room}
	err = errors.Join(e.write(ctx, lines), lines.end())
	if broken != nil {
		return broken
	}
	switch {
	case room.full:
		b.told = append(b.told, e.name+": cut, the bundle is full")
	case err != nil:
		b.told = append(b.told, e.name+": left out: "+text(firstLine(err)))
	default:
		b.told = append(b.told, e.name)
	}
	return nil
}

// firstLine keeps what a system says of a file out of the manifest's lines.
func firstLine(err error) string {
	s := fault.Message(err)
	if s == "" {
		s = err.Error()
	}
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// budget passes on what there is room for.
type budget struct {
	w      io.Writer
	left   *int
	full   bool
	broken *error // of w
}

func (b *budget) Write(p []byte) (int, error) {
	if *b.left < len(p) {
		b.full = true
		return len(p), nil
	}
	*b.left -= len(p)
	if _, err := b.w.Write(p); err != nil {
		*b.broken = err
		return 0, err
	}
	return len(p), nil
}
