package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// runPlan carries out the installer's plans on this host, without an agent: the
// tests on a booted system do so.
func runPlan(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("plan", flag.ContinueOnError)
	root := f.String("root", "", "the site's folder (mandatory)")
	archive := f.String("archive", "", "the distribution (mandatory)")
	file := f.String("config", "", "the installer configuration")
	java := f.String("java", "", "the Java program of classic")
	if err := parse(f, args, errOut); err != nil {
		return err
	}
	a, err := os.Open(*archive)
	if err != nil {
		return err
	}
	defer a.Close() //nolint:errcheck // read only
	format, err := nucleus.Sniff(a)
	if err != nil {
		return err
	}
	m, err := nucleus.Inspect(a, format)
	if err != nil {
		return err
	}
	digest, err := nucleus.Digest(ctx, a)
	if err != nil {
		return err
	}
	o := nucleus.Options{Archive: *archive, Format: format, Classic: nucleus.ClassicOptions{Java: *java}}
	if *file != "" {
		if o.Config, err = os.ReadFile(*file); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(*root, 0o755); err != nil { //nolint:gosec // as the nucleus's
		return err
	}
	s, err := nucleus.OpenSite(*root, nucleus.Limits{})
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // a folder
	v := nucleus.Version{Name: m.Name, Version: m.Version, Digest: digest}
	return carryOut(ctx, out, verb, s, v, m, o)
}

func carryOut(ctx context.Context, out io.Writer, verb string, s *nucleus.Site, v nucleus.Version, m nucleus.Manifest, o nucleus.Options) error {
	host := nucleus.NewHost()
	prepare, change, err := s.Plan(v, m, o, host)
	if err != nil {
		return err
	}
	switch verb {
	case "show":
		steps, err := append(prepare, change).Pending(ctx)
		for _, step := range steps {
			fmt.Fprintf(out, "%s: %s\n", step.Name, step.Describe)
		}
		return err
	case "prepare":
		return prepare.Run(ctx, nil)
	case "switch":
		return nucleus.Plan{change}.Run(ctx, nil)
	case "back":
		return change.Undo(ctx)
	case "undo":
		return append(prepare, change).Undo(ctx)
	case "settle":
		return s.Prune(v)
	case "remove":
		p, err := s.Remove(v, m, o, host)
		if err != nil {
			return err
		}
		return p.Run(ctx, nil)
	case "find":
		found, err := nucleus.Find(ctx, host)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(found)
	}
	return fault.New(fault.Invalid, "plan %q, want show, prepare, switch, back, undo, settle, remove or find", verb)
}
