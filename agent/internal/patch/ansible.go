package patch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/marked"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	workName   = "patch" // folder of the patch in hand, in the agent's folder
	program    = "ansible-playbook"
	runVar     = "GGFLEET_PATCH_RUN" // marks the processes of a run
	maxEncoded = 48 << 10            // bytes of a message as JSON: the control plane takes 64 KiB
)

// prepared is a playbook that can be run.
type prepared struct {
	program string
	dir     string
	runID   string
	ca      string // file of certificates to trust; empty: the system's own
	timeout time.Duration
	grace   time.Duration // between asking it to stop and killing it
}

// prepare fetches the playbook and puts it and its variables into the work
// folder. problem says why the patch cannot be run at all.
func (r *Runner) prepare(ctx context.Context, o protocol.PatchOrder, j journal) (p prepared, problem string, err error) {
	if !consent.Allowed(r.cfg.Dir.Path(""), consent.Patches) {
		return p, protocol.PatchesNotAllowed + ": this device does not run patches; its administrator can allow them with 'ggfleet-agent allow patches'", nil
	}
	if p.program, err = exec.LookPath(program); err != nil {
		return p, protocol.PatchAnsibleNotFound + ": there is no " + program + " in " + path() + "; install Ansible on the device", nil
	}
	playbook, err := r.cfg.Cloud.PatchPlaybook(ctx, o.ID)
	if err != nil {
		return p, "", err
	}
	if sum := sha256.Sum256(playbook); hex.EncodeToString(sum[:]) != o.PlaybookDigest {
		return p, protocol.PatchNotRun + ": the playbook is not the one that was announced", nil
	}
	vars, err := json.Marshal(o.Variables())
	if err != nil {
		return p, "", err
	}
	root := r.cfg.Dir.Root()
	if err := root.RemoveAll(workName); err != nil {
		return p, "", err
	}
	if err := root.Mkdir(workName, 0o700); err != nil {
		return p, "", err
	}
	files := map[string][]byte{"playbook.yml": playbook, "vars.json": vars}
	if r.cfg.CAPEM != "" {
		files["ca.pem"] = append(systemCAs(), r.cfg.CAPEM...)
		p.ca = r.cfg.Dir.Path(filepath.Join(workName, "ca.pem"))
	}
	for name, content := range files {
		if err := root.WriteFile(filepath.Join(workName, name), content, 0o600); err != nil {
			return p, "", err
		}
	}
	p.dir, p.runID, p.grace, p.timeout = r.cfg.Dir.Path(workName), j.Run, r.cfg.Grace, time.Duration(o.TimeoutSeconds)*time.Second
	if p.timeout <= 0 {
		p.timeout = time.Hour
	}
	return p, "", nil
}

// run runs the playbook and returns the end of what it said.
func (p prepared) run(ctx context.Context) (success bool, message string) {
	// On Linux the playbook dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	timed, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(timed, p.program, "--inventory", "localhost,", "--connection", "local", "--extra-vars", "@vars.json", "playbook.yml")
	cmd.Dir = p.dir
	cmd.Env = p.environment()
	out := &tail{max: protocol.MaxPatchOutput}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = group()
	cmd.Cancel = func() error { return ask(cmd.Process) }
	// Also how long what the playbook left running may hold its output.
	cmd.WaitDelay = p.grace
	err := cmd.Run()
	if timed.Err() != nil && cmd.Process != nil {
		kill(cmd.Process) // whatever did not heed it
		marked.Kill(runVar, p.runID)
	}
	switch {
	case cmd.ProcessState == nil:
		return false, fmt.Sprintf("%s: %s does not start: %v", protocol.PatchNotRun, program, err)
	case cmd.ProcessState.Success() && (err == nil || errors.Is(err, exec.ErrWaitDelay)):
		return true, out.text("")
	case ctx.Err() != nil:
		return false, out.text(protocol.PatchInterrupted + ": the agent was stopped while the playbook ran, and stopped it")
	case timed.Err() != nil:
		return false, out.text(fmt.Sprintf("%s: the playbook was stopped after %s", protocol.PatchTimedOut, p.timeout))
	}
	return false, out.text(program + " ended with " + cmd.ProcessState.String())
}

// environment is what the playbook gets to see: nothing of the agent's own.
// Python and curl trust the control plane's certificate beside the system's.
func (p prepared) environment() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = p.dir
	}
	env := []string{
		"PATH=" + path(), "HOME=" + home, "LANG=C.UTF-8", runVar + "=" + p.runID,
		"ANSIBLE_NOCOLOR=1", "ANSIBLE_RETRY_FILES_ENABLED=0", "ANSIBLE_LOCAL_TEMP=" + filepath.Join(p.dir, "tmp"),
	}
	if p.ca != "" {
		env = append(env, "SSL_CERT_FILE="+p.ca, "CURL_CA_BUNDLE="+p.ca, "REQUESTS_CA_BUNDLE="+p.ca)
	}
	return env
}

func path() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// systemCAs returns the certificates that this system trusts, as PEM.
func systemCAs() []byte {
	for _, f := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if b, err := os.ReadFile(f); err == nil {
			return append(b, '\n')
		}
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	max int
	b   []byte
	cut bool
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.max; over > 0 {
		t.cut = true
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// text is what was kept as text that fits a report, below a first line.
func (t *tail) text(first string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(t.b), ""))
	for {
		b, err := json.Marshal(clean)
		if err == nil && len(b) <= maxEncoded {
			break
		}
		clean, t.cut = strings.ToValidUTF8(clean[len(clean)/4+1:], ""), true
	}
	if t.cut {
		clean = "…" + clean
	}
	if first == "" {
		return clean
	}
	return first + "\n" + clean
}
