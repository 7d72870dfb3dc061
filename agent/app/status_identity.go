package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// printUnenrolled writes that the agent is not enrolled, and whether it is on the
// way.
func printUnenrolled(w io.Writer, root string) {
	where := asks(root)
	if where == "" {
		fmt.Fprintln(w, "enrolled: no")
		return
	}
	fmt.Fprintf(w, "enrolled: no, asks %s\n", where)
	b, err := os.ReadFile(filepath.Join(root, "agent", "key.pem"))
	if err != nil {
		return // it is elsewhere, or not there yet
	}
	if key, err := keystore.ParseKey(b); err == nil {
		if own, err := identity.KeyFingerprint(key); err == nil {
			fmt.Fprintf(w, "request:  %s, for whoever approves\n", own)
		}
	}
}

// asks returns the address at which an agent that is on the way asks to be let in;
// "": it does not know any.
func asks(root string) string {
	var i enroll.Intent
	for _, name := range []string{filepath.Join(root, "agent", enrollFile), filepath.Join(root, enrollFile)} {
		if readJSON(name, &i) == nil && !i.Empty() {
			if e, err := protocol.ParseEnrollment(i.String); err == nil {
				return e.URL
			}
			return i.URL
		}
	}
	return ""
}

// printIdentity writes who the agent is and how its certificate does.
func printIdentity(w io.Writer, agent string, id identity.Identity) {
	kind := "core:  "
	if id.Subject().Role == protocol.RoleClient {
		kind = "device:"
	}
	fmt.Fprintf(w, "enrolled: %s at %s\n%s   %s\n", id.AgentThing, id.URL, kind, id.Subject().Name)

	keys := id.Keys
	if keys == "" {
		keys = keystore.FileRef
	}
	if c, err := identity.ParseCertificate(id.CertificatePEM); err == nil {
		fmt.Fprintf(w, "key:      %s, certificate until %s", keys, c.NotAfter.UTC().Format(time.DateOnly))
		if id.Next != nil || id.Old != nil {
			fmt.Fprint(w, ", being renewed")
		}
		fmt.Fprintln(w)
	}
	var c conflict
	if readJSON(filepath.Join(agent, conflictName), &c) == nil && !c.At.IsZero() {
		fmt.Fprintf(w, "conflict: another agent used this identity, last seen %s; enrol one of the two anew\n", c.At.UTC().Format(time.RFC3339))
	}
}
