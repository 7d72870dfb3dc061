package doctor

import (
	"cmp"
	"context"
	"errors"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Bounds of the checks of the nucleus.
const (
	oldestJava   = 8
	restartsHigh = 5
	logErrorsLow = 20
)

// device answers for the checks of a core when this device is none.
func core(e *examination) (finding, bool) {
	if !e.Core {
		return skipped("a client device has no nucleus"), false
	}
	return finding{}, true
}

func checkConfiguration(_ context.Context, e *examination) finding {
	if f, ok := core(e); !ok {
		return f
	}
	if len(e.Nucleus.Config) == 0 {
		return failed("there is none on this device")
	}
	sys, err := config.ReadSystem(e.Nucleus.Config)
	if err != nil {
		return failed("%v", err)
	}
	if sys.ThingName != e.Name {
		return failed("it is of %q, and this is %s", sys.ThingName, e.Name)
	}
	ends, err := config.ReadEndpoints(e.Nucleus.Config)
	if err != nil {
		return failed("%v", err)
	}
	if ends.Data == "" || ends.Credentials == "" {
		return failed("it names no iotDataEndpoint or iotCredEndpoint: such a nucleus stays offline")
	}
	return passed("of %s for %s", e.Name, ends.Service)
}

func checkCoreCertificate(_ context.Context, e *examination) finding {
	c := e.Nucleus.Certificate
	if c.Err != nil {
		return failed("%v", c.Err)
	}
	if c.NotAfter.IsZero() {
		return failed("there is none on this device")
	}
	return valid(e, c)
}

func checkCoreTrust(_ context.Context, e *examination) finding {
	if !e.Nucleus.Trusts {
		return failed("the root CA file lacks the CA of the enrolment")
	}
	return passed("it holds the CA of the enrolment")
}

func checkInstalled(_ context.Context, e *examination) finding {
	if e.Nucleus.Runtime == "" {
		if e.Nucleus.LastError != "" {
			return failed("none; %s", e.Nucleus.LastError)
		}
		return failed("none")
	}
	return passed("%s %s in %s", e.Nucleus.Runtime, e.Nucleus.Version, e.Nucleus.Root)
}

// javaVersion finds the version in what "java -version" prints: 1.8.0_292 is
// version 8, 17.0.15 is 17.
var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

func checkJava(ctx context.Context, e *examination) finding {
	if e.Nucleus.Runtime != "classic" {
		return skipped("only nucleus classic needs Java")
	}
	program, err := e.LookPath(cmp.Or(e.Nucleus.Java, "java"))
	if err != nil {
		return failed("there is no %s", cmp.Or(e.Nucleus.Java, "java"))
	}
	out, err := e.Command(ctx, program, "-version")
	if err != nil {
		return failed("%s does not run: %v", program, err)
	}
	found := javaVersion.FindStringSubmatch(out)
	if found == nil {
		return warned("%s does not tell its version", program)
	}
	if n, _ := strconv.Atoi(found[1]); n < oldestJava {
		return failed("%s is version %s, want %d or newer", program, found[1], oldestJava)
	}
	return passed("%s is version %s", program, found[1])
}

func checkUsers(_ context.Context, e *examination) finding {
	n := e.Nucleus
	if n.User == "" {
		return skipped("components run as the nucleus does")
	}
	if !e.User(n.User) {
		return failed("there is no user %s", n.User)
	}
	if n.Group != "" && !e.Group(n.Group) {
		return failed("there is no group %s", n.Group)
	}
	return passed("%s", strings.TrimSuffix(n.User+":"+n.Group, ":"))
}

func checkProgram(_ context.Context, e *examination) finding {
	if e.Nucleus.Program == "" {
		return skipped("units of the system start it")
	}
	info, err := e.Stat(e.Nucleus.Program)
	if err != nil {
		return failed("%v", err)
	}
	if e.OS != "windows" && info.Mode()&0o111 == 0 {
		return failed("%s is not executable", e.Nucleus.Program)
	}
	return passed("%s", e.Nucleus.Program)
}

func checkRunning(_ context.Context, e *examination) finding {
	n := e.Nucleus
	if n.Program == "" {
		return skipped("units of the system start it")
	}
	if !n.Running {
		if n.LastError == "" {
			return failed("it does not run")
		}
		return failed("it does not run; %s", n.LastError)
	}
	return passed("it runs")
}

func checkUnits(ctx context.Context, e *examination) finding {
	if len(e.Nucleus.Units) == 0 {
		return skipped("the agent itself starts the nucleus")
	}
	var down []string
	for _, unit := range e.Nucleus.Units {
		out, err := e.Command(ctx, "systemctl", "is-active", unit)
		if state := strings.TrimSpace(out); state != "active" {
			if state == "" && err != nil {
				state = err.Error()
			}
			down = append(down, unit+" is "+state)
		}
	}
	if len(down) > 0 {
		return failed("%s", strings.Join(down, ", "))
	}
	return passed("%d units are active", len(e.Nucleus.Units))
}

func checkCrashLoop(_ context.Context, e *examination) finding {
	if e.Nucleus.Restarts >= restartsHigh {
		return failed("it was started again %d times within an hour; %s", e.Nucleus.Restarts, cmp.Or(e.Nucleus.LastError, "now it runs"))
	}
	return passed("it was started again %d times within an hour", e.Nucleus.Restarts)
}

func checkRejected(_ context.Context, e *examination) finding {
	if e.Nucleus.Rejected != "" {
		return warned("%s", e.Nucleus.Rejected)
	}
	return passed("none")
}

func checkDataEndpoint(ctx context.Context, e *examination) finding {
	return endpoint(ctx, e, func(ends config.Endpoints) string { return ends.Data })
}

func checkCredentialsEndpoint(ctx context.Context, e *examination) finding {
	return endpoint(ctx, e, func(ends config.Endpoints) string { return ends.Credentials })
}

func checkDataPlane(ctx context.Context, e *examination) finding {
	return endpoint(ctx, e, func(ends config.Endpoints) string { return ends.DataPlane })
}

func endpoint(ctx context.Context, e *examination, which func(config.Endpoints) string) finding {
	if f, ok := core(e); !ok {
		return f
	}
	ends, err := config.ReadEndpoints(e.Nucleus.Config)
	if err != nil {
		return skipped("%v", err)
	}
	address := which(ends)
	if address == "" {
		return skipped("it is AWS's own")
	}
	if ends.Proxied && address != ends.Data {
		return skipped("%s is reached through the nucleus's own proxy", address)
	}
	return reach(address, func() (net.Conn, error) { return e.Dial(ctx, "tcp", address) })
}

func checkLog(_ context.Context, e *examination) finding {
	if n := e.Nucleus.LogErrors; n >= logErrorsLow {
		return warned("%d lines near the end of its log tell of errors", n)
	}
	return passed("%d lines near the end of its log tell of errors", e.Nucleus.LogErrors)
}

func checkNucleusDisk(_ context.Context, e *examination) finding {
	if f := readOnly(e, e.Nucleus.Root); f.status == Failed {
		return f
	}
	return room(e, e.Nucleus.Root)
}

func checkFiles(ctx context.Context, e *examination) finding {
	if e.Nucleus.Files == nil {
		return skipped("the agent did not unpack it")
	}
	err := e.Nucleus.Files(ctx)
	switch {
	case err == nil:
		return passed("they are what was unpacked")
	case ctx.Err() != nil:
		return warned("not all could be read in %s", checkTime)
	case errors.Is(err, fault.Unsupported):
		return skipped("%v", err)
	}
	return failed("%v", err)
}
