package patching

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Expressions in extraVars (cdf-services §6.6):
// ${aws:s3:presign:https://BUCKET[.s3…]/KEY[?expiresIn=SECONDS]}, alone or inside
// longer text, stands for a URL at which the device can read that object.
const (
	exprOpen    = "${aws:s3:presign:"
	exprClose   = "}"
	defaultLife = time.Hour
	maxLife     = 7 * 24 * time.Hour
)

// presign is one expression.
type presign struct {
	bucket, key string
	life        time.Duration
}

// expand replaces each expression of text by what link makes of it.
func expand(text string, link func(presign) (string, error)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, exprOpen)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		inner, after, closed := strings.Cut(rest, exprClose)
		if !closed {
			return "", fault.New(fault.Invalid, "%q has no closing brace", fault.Brief(exprOpen+rest))
		}
		p, err := parsePresign(inner)
		if err != nil {
			return "", err
		}
		u, err := link(p)
		if err != nil {
			return "", err
		}
		out.WriteString(u)
		text = after
	}
}

// parsePresign reads what stands between "presign:" and the brace.
func parsePresign(s string) (presign, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Port() != "" || u.Fragment != "" {
		return presign{}, fault.New(fault.Invalid, "%q is no https://BUCKET/KEY or https://BUCKET.s3.REGION.amazonaws.com/KEY", fault.Brief(s))
	}
	p := presign{bucket: strings.ToLower(u.Host), key: strings.TrimPrefix(u.Path, "/"), life: defaultLife}
	if err := object.CheckKey(p.key); err != nil {
		return presign{}, err
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return presign{}, fault.New(fault.Invalid, "the query of %q cannot be read: %v", fault.Brief(s), err)
	}
	for name, values := range q {
		if name != "expiresIn" || len(values) != 1 {
			return presign{}, fault.New(fault.Invalid, "%q may have one query parameter, expiresIn", fault.Brief(s))
		}
		n, err := strconv.Atoi(values[0])
		if err != nil || n < 1 || n > int(maxLife.Seconds()) {
			return presign{}, fault.New(fault.Invalid, "expiresIn %q must be 1 to %d seconds", fault.Brief(values[0]), int(maxLife.Seconds()))
		}
		p.life = time.Duration(n) * time.Second
	}
	return p, nil
}

// checkSyntax checks what can be said of a value without knowing the device.
func (s *Service) checkSyntax(text string) error {
	_, err := expand(text, func(p presign) (string, error) { return "", s.checkBucket(p) })
	return err
}

func (s *Service) checkBucket(p presign) error {
	ours := strings.ToLower(s.cfg.Objects.Bucket())
	if host, _, _ := strings.Cut(p.bucket, ".s3"); p.bucket != ours && host != ours {
		return fault.New(fault.Invalid, "bucket %q is not the bucket of artifacts, %q", fault.Brief(p.bucket), s.cfg.Objects.Bucket())
	}
	return nil
}

// allowed refuses every object but the device's own artifacts and those that
// patches of every device may read.
func (s *Service) allowed(device string, p presign) error {
	if err := s.checkBucket(p); err != nil {
		return err
	}
	own := s.cfg.ArtifactPrefix + device + "/"
	for _, prefix := range append([]string{own}, s.cfg.AllowPrefixes...) {
		if strings.HasPrefix(p.key, prefix) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "object %q may not be linked to from a patch of device %q: only those below %s", fault.Brief(p.key), fault.Brief(device),
		strings.Join(append([]string{own}, s.cfg.AllowPrefixes...), ", "))
}

// merge is what a run gets: the template's variables, overlaid by the patch's.
func merge(template, patch map[string]string) map[string]string {
	out := make(map[string]string, len(template)+len(patch))
	for _, from := range []map[string]string{template, patch} {
		for k, v := range from {
			out[k] = v
		}
	}
	return out
}

// checkLinks refuses variables that this device may not have. The error has the
// path of the variable.
func (s *Service) checkLinks(device string, vars map[string]string) error {
	for k, v := range vars {
		if _, err := expand(v, func(p presign) (string, error) { return "", s.allowed(device, p) }); err != nil {
			return fault.Field("extraVars."+k, "%s", fault.Message(err))
		}
	}
	return nil
}

// evaluate makes fresh links. A permanent error says what cannot be evaluated.
func (s *Service) evaluate(ctx context.Context, device string, vars map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(vars))
	for k, v := range vars {
		var err error
		out[k], err = expand(v, func(p presign) (string, error) {
			if err := s.allowed(device, p); err != nil {
				return "", err
			}
			return s.cfg.Links.Link(ctx, p.key, p.life)
		})
		if fault.Permanent(err) {
			return nil, fault.Field("extraVars."+k, "%s", fault.Message(err))
		}
		if err != nil {
			return nil, fmt.Errorf("evaluate extraVars.%s: %w", k, err)
		}
	}
	return out, nil
}
