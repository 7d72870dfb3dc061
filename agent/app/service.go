package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// InstallService makes the agent in root a service that starts with the machine,
// starts it if the agent is enrolled, and says what came of it.
func InstallService(w io.Writer, root string) error {
	s, err := svc.New(root)
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" && !enrolled(root) {
		// systemd waits for the identity; the others would start it again and again.
		return fault.New(fault.Conflict, "the agent in %s is not enrolled; run 'ggfleet-agent enroll STRING%s' first, then install the service", root, rootFlag(root))
	}
	st, err := s.Install()
	if err != nil {
		return err
	}
	if !enrolled(root) {
		_, err = fmt.Fprintf(w, "service %s is installed%s; it waits for 'ggfleet-agent enroll%s'\n", s.Name(), origin(st), rootFlag(root))
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "service %s is installed%s and runs\n", s.Name(), origin(st))
	return err
}

func origin(st svc.State) string {
	switch {
	case st.Packaged:
		return " by its package"
	case st.File != "":
		return " (" + st.File + ")"
	}
	return ""
}

// UninstallService stops the service and removes it; one of a package stays with
// its package and no longer starts with the machine. What the agent keeps stays.
func UninstallService(w io.Writer, root string) error {
	s, err := svc.New(root)
	if err != nil {
		return err
	}
	was, err := s.Uninstall()
	if err != nil {
		return err
	}
	switch {
	case !was.Installed:
		_, err = fmt.Fprintf(w, "service %s was not installed\n", s.Name())
	case was.Packaged:
		_, err = fmt.Fprintf(w, "service %s is stopped and disabled; it belongs to a package: remove that with apt-get remove %[1]s or rpm -e %[1]s\n", s.Name())
	default:
		_, err = fmt.Fprintf(w, "service %s is stopped and removed\n", s.Name())
	}
	return err
}

// StartService starts the installed service.
func StartService(root string) error {
	s, err := svc.New(root)
	if err != nil {
		return err
	}
	return s.Start()
}

// StopService stops it, and with it a nucleus that the agent runs as a process.
func StopService(root string) error {
	s, err := svc.New(root)
	if err != nil {
		return err
	}
	return s.Stop()
}

// WakeService starts the service that has waited for an enrolment, if there is
// one, and says how the agent comes to work.
func WakeService(w io.Writer, root string) error {
	hint := fmt.Sprintf("it works while 'ggfleet-agent run%[1]s' does; 'ggfleet-agent install%[1]s' makes it a service\n", rootFlag(root))
	s, err := svc.New(root)
	if err == nil {
		switch st := s.State(); {
		case st.Running:
			hint = ""
		case st.Installed:
			hint = "service " + s.Name() + " is started\n"
			if err := s.Start(); err != nil {
				hint = "service " + s.Name() + " is installed and could not be started: " + err.Error() + "\n"
			}
		}
	}
	_, err = io.WriteString(w, hint)
	return err
}

// rootFlag is what a command that is named to somebody needs beside, to be about the
// agent in root: nothing for the root that it takes by itself.
func rootFlag(root string) string {
	if root == "" || root == DefaultRoot {
		return ""
	}
	return " --root " + root
}

// enrolled reports whether the agent in root is enrolled, or is to be when it
// runs, or has a nucleus to run. The unit of systemd waits for the same files.
func enrolled(root string) bool {
	for _, name := range []string{"agent/identity.json", "agent/enroll.json", enrollFile, "agent/identity.json.copy", "agent/install.json"} {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err == nil {
			return true
		}
	}
	return false
}

// printService writes how the service of the agent in root is.
func printService(w io.Writer, root string) {
	s, err := svc.New(root)
	if err != nil {
		fmt.Fprintf(w, "service:  none: %v\n", err)
		return
	}
	st := s.State()
	fmt.Fprintf(w, "service:  %s: %s", s.Name(), st.Word)
	if st.Running {
		if st.PID > 0 {
			fmt.Fprintf(w, ", pid %d", st.PID)
		}
		if !st.Since.IsZero() {
			fmt.Fprintf(w, ", since %s", st.Since.Format(time.RFC3339))
		}
		if st.Restarts > 0 {
			fmt.Fprintf(w, ", started again %d times", st.Restarts)
		}
	}
	if st.Installed {
		boot := "does not start with the machine"
		if st.Boot {
			boot = "starts with the machine"
		}
		fmt.Fprintf(w, ", %s%s", boot, origin(st))
		if !st.Running && !enrolled(root) {
			fmt.Fprintf(w, ", waits for 'ggfleet-agent enroll%s'", rootFlag(root))
		}
	}
	fmt.Fprintln(w)
}
