package app

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
)

// Bounds of settings.
const (
	maxCertificateDays = 100 * 365
	maxPatchDays       = 10 * 365
	maxRolloutRate     = 1_000_000
	maxAWSRate         = 1e6
	maxEventRetain     = 10_000_000 // some 5 GB in the store of record
	maxWorkers         = 10_000

	maxEnrollmentWaiting = 100_000
)

var windowsPath = regexp.MustCompile(`^[A-Za-z]:[\\/]`) // devices may run Windows

// checkServices checks what the services are set up with, before anything is
// opened.
func (c *Config) checkServices() error {
	for _, n := range []struct {
		name              string
		value, from, upTo int
	}{
		{"certificate-days", c.CertificateDays, 1, maxCertificateDays},
		{"patch-days", c.PatchDays, 1, maxPatchDays},
		{"event-retain", c.EventRetain, 100, maxEventRetain}, // readers that are away for a moment need some
		{"enrollment-waiting", c.EnrollmentWaiting, 1, maxEnrollmentWaiting},
		{"enrollment-waiting-from", c.EnrollmentWaitingFrom, 1, maxEnrollmentWaiting},
		{"workers", c.Workers, 1, maxWorkers},
		{"rollout-rate", c.RolloutRate, 0, maxRolloutRate},
	} {
		if n.value < n.from || n.value > n.upTo {
			return fmt.Errorf("%s %d must be %d to %d", n.name, n.value, n.from, n.upTo)
		}
	}
	if life := c.AgentCertificateLife; life < enrollment.MinCertificateLife || life > enrollment.MaxCertificateLife {
		return fmt.Errorf("agent-certificate-life %s must be %s to %s", life, enrollment.MinCertificateLife, enrollment.MaxCertificateLife)
	}
	if grace := c.AgentCertificateGrace; grace < 0 || grace > enrollment.MaxCertificateGrace {
		return fmt.Errorf("agent-certificate-grace %s must be 0 to %s", grace, enrollment.MaxCertificateGrace)
	}
	if c.AWSRate != 0 && (c.AWSRate < 1 || c.AWSRate > maxAWSRate) {
		return fmt.Errorf("aws-rate %g must be 0 or 1 to %d", c.AWSRate, int(maxAWSRate))
	}
	for _, p := range c.PatchPrefixes {
		if folder, ok := strings.CutSuffix(p, "/"); !ok || object.CheckKey(folder) != nil {
			return fmt.Errorf("patch-prefixes: %q must be a folder of the bucket: not empty, no slash before it, one after it", p)
		}
	}
	if err := c.checkBrowsers(); err != nil {
		return err
	}
	if c.ClaimCertDir != "" && !path.IsAbs(c.ClaimCertDir) && !windowsPath.MatchString(c.ClaimCertDir) {
		return fmt.Errorf("claim-cert-dir %q must be an absolute path on devices", c.ClaimCertDir)
	}
	if _, err := pairs("ca-aliases", c.CAAliases); err != nil {
		return err
	}
	if _, err := pairs("pca-aliases", c.PCAAliases); err != nil {
		return err
	}
	if _, err := c.generators(c.PublicHost, 0, 0); err != nil { // ports are known later
		return err
	}
	_, err := c.assets()
	return err
}

// checkBrowsers checks how the fleet API is published.
func (c *Config) checkBrowsers() error {
	if p := strings.Trim(c.BasePath, "/"); p != "" && (path.Clean(p) != p || strings.HasPrefix(p, "..") || strings.ContainsAny(p, "?#%:\\ ")) {
		return fmt.Errorf("base-path %q must be a path such as /fleet, as requests have it: no query, no escapes, no . or .. in it", c.BasePath)
	}
	if c.CORSOrigin == "" || c.CORSOrigin == "*" {
		return nil
	}
	u, err := url.Parse(c.CORSOrigin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Contains(u.Host, ",") || u.Scheme+"://"+u.Host != c.CORSOrigin {
		return fmt.Errorf("cors-origin %q must be one origin as browsers send it, https://HOST or https://HOST:PORT, or *", c.CORSOrigin)
	}
	return nil
}
