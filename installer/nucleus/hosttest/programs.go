package hosttest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
)

func ok(text string) nucleus.Result { return nucleus.Result{Stdout: []byte(text)} }

func failed(code int, format string, args ...any) nucleus.Result {
	return nucleus.Result{Code: code, Stderr: fmt.Appendf(nil, format+"\n", args...)}
}

func endOf(err error) nucleus.Result {
	if err != nil {
		return failed(1, "%v", err)
	}
	return ok("")
}

// systemctl plays the calls that an installer makes.
func (h *Host) systemctl(_ context.Context, c nucleus.Command) nucleus.Result {
	verb, units := c.Argv[1], c.Argv[2:]
	switch verb {
	case "daemon-reload", "reset-failed":
		return ok("")
	case "is-active":
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.active[units[0]] {
			return ok("active\n")
		}
		return nucleus.Result{Code: 3, Stdout: []byte("inactive\n")}
	case "start", "stop", "restart":
		for _, u := range units {
			h.SetActive(u, verb != "stop")
		}
		return ok("")
	case "is-enabled":
		if h.unit(units[0]) == "" {
			return failed(4, "Failed to get unit file state for %s: No such file or directory", units[0])
		}
		if wants := h.wants(units[0]); len(wants) > 0 {
			if _, err := os.Lstat(h.Path(wants[0])); err != nil {
				return nucleus.Result{Code: 1, Stdout: []byte("disabled\n")}
			}
			return ok("enabled\n")
		}
		return ok("static\n")
	case "enable", "disable":
		for _, u := range units {
			if h.unit(u) == "" {
				return failed(1, "Failed to %s unit: Unit file %s does not exist.", verb, u)
			}
			for _, w := range h.wants(u) {
				if verb == "disable" {
					_ = os.Remove(h.Path(w))
					_ = os.Remove(h.Path(path.Dir(w))) // when it is empty, as systemd does
					continue
				}
				if err := os.MkdirAll(h.Path(path.Dir(w)), 0o755); err != nil {
					return endOf(err)
				}
				if err := os.Symlink(h.unit(u), h.Path(w)); err != nil && !os.IsExist(err) {
					return endOf(err)
				}
			}
		}
		return ok("")
	}
	return failed(1, "Unknown command verb %s.", verb)
}

// unit finds a unit's file; "" when there is none or the link leads nowhere.
func (h *Host) unit(name string) string {
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		p := path.Join(dir, name)
		if b, err := nucleus.ReadLinked(h, p); err == nil && len(b) > 0 {
			return p
		}
	}
	return ""
}

func (h *Host) wants(unit string) []string {
	b, err := nucleus.ReadLinked(h, h.unit(unit))
	if err != nil {
		return nil
	}
	var out []string
	for line := range bytes.Lines(b) {
		if target, found := strings.CutPrefix(strings.TrimSpace(string(line)), "WantedBy="); found {
			for t := range strings.FieldsSeq(target) {
				out = append(out, path.Join("/etc/systemd/system", t+".wants", unit))
			}
		}
	}
	return out
}

const firstID = 900

func (h *Host) groupadd(_ context.Context, c nucleus.Command) nucleus.Result {
	name := c.Argv[len(c.Argv)-1]
	return endOf(h.addLine("/etc/group", name, func(id int) string { return fmt.Sprintf("%s:x:%d:", name, id) }))
}

func (h *Host) useradd(ctx context.Context, c nucleus.Command) nucleus.Result {
	name := c.Argv[len(c.Argv)-1]
	group := name
	if i := slices.Index(c.Argv, "--gid"); i > 0 {
		group = c.Argv[i+1]
	} else if r := h.groupadd(ctx, c); r.Code != 0 {
		return r
	}
	g, err := h.Group(ctx, group)
	if err != nil {
		return failed(6, "useradd: group '%s' does not exist", group)
	}
	home := "/home/" + name
	if slices.Contains(c.Argv, "--create-home") {
		if err := os.MkdirAll(h.Path(home), 0o750); err != nil {
			return endOf(err)
		}
	}
	return endOf(h.addLine("/etc/passwd", name, func(id int) string {
		return fmt.Sprintf("%s:x:%d:%d::%s:/usr/sbin/nologin", name, id, g.GID, home)
	}))
}

func (h *Host) groupdel(_ context.Context, c nucleus.Command) nucleus.Result {
	return endOf(h.dropLine("/etc/group", c.Argv[len(c.Argv)-1]))
}

func (h *Host) userdel(_ context.Context, c nucleus.Command) nucleus.Result {
	name := c.Argv[len(c.Argv)-1]
	if slices.Contains(c.Argv, "--remove") {
		_ = os.RemoveAll(h.Path("/home/" + name))
		_ = os.Remove(h.Path("/home"))
	}
	return endOf(h.dropLine("/etc/passwd", name))
}

func (h *Host) addLine(file, name string, line func(id int) string) error {
	b, err := os.ReadFile(h.Path(file))
	if err != nil {
		return err
	}
	id := firstID
	for l := range bytes.Lines(b) {
		f := strings.Split(string(l), ":")
		if f[0] == name {
			return fmt.Errorf("%s exists", name)
		}
		if n, err := strconv.Atoi(f[2]); err == nil && n >= id {
			id = n + 1
		}
	}
	return os.WriteFile(h.Path(file), append(b, line(id)+"\n"...), 0o644)
}

func (h *Host) dropLine(file, name string) error {
	b, err := os.ReadFile(h.Path(file))
	if err != nil {
		return err
	}
	var out []byte
	for l := range bytes.Lines(b) {
		if !bytes.HasPrefix(l, []byte(name+":")) {
			out = append(out, l...)
		}
	}
	return os.WriteFile(h.Path(file), out, 0o644)
}

func (h *Host) java(_ context.Context, c nucleus.Command) nucleus.Result {
	if slices.Contains(c.Argv, "-version") {
		return nucleus.Result{Stderr: []byte("openjdk version \"17.0.10\" 2024-01-16\nOpenJDK Runtime Environment\n")}
	}
	out, err := standin.Setup(h.Host, c.Argv[1:])
	if err != nil {
		return failed(1, "Error while trying to setup Greengrass Nucleus: %v", err)
	}
	return ok(out)
}
