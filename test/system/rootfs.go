package system

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// suite and packages are what machines are made of: a small Debian, and what a
// technician finds on a device. A change makes a new root file system.
const suite = "bookworm"

const makingIn = 10 * time.Minute // bounds debootstrap, which may wait for a mirror

var packages = []string{
	"systemd", "systemd-sysv", "dbus", "busybox", "ca-certificates", "curl", "iproute2", "procps", "rpm", "sudo", "unzip", "wget",
}

var tools = []string{"debootstrap", "systemd-nspawn", "nsenter", "mount", "umount"}

// missing says what this host lacks for machines; "" when nothing.
func missing() string {
	if os.Getuid() != 0 {
		return "machines need root: mounts and namespaces"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return "there is no " + tool + ": install debootstrap and systemd-container"
		}
	}
	return ""
}

// cache is the folder of root file systems.
func cache() string {
	if dir := os.Getenv("GGFLEET_SYSTEM_CACHE"); dir != "" {
		return dir
	}
	return filepath.Join("/var/cache", "ggfleet-test")
}

// rootfs is the root file system that all machines of this process lie on. It
// is made at the first use, which takes a minute.
var rootfs = sync.OnceValues(func() (dir string, err error) {
	sum := sha256.Sum256([]byte(suite + " " + strings.Join(packages, ",")))
	dir = filepath.Join(cache(), suite+"-"+hex.EncodeToString(sum[:4]))
	if err := os.MkdirAll(cache(), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // another test binary may be making it
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	making := dir + ".making"
	for range 3 { // a mirror may fail once
		if err = debootstrap(making); err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	archives, err := filepath.Glob(making + "/var/cache/apt/archives/*.deb")
	if err != nil {
		return "", err
	}
	for _, f := range archives {
		if err := os.Remove(f); err != nil {
			return "", err
		}
	}
	return dir, os.Rename(making, dir)
})

func debootstrap(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), makingIn)
	defer cancel()
	out, err := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making a root file system with debootstrap, is a Debian mirror within reach? %w\n%s", errors.Join(err, ctx.Err()), out[max(0, len(out)-2000):])
	}
	return nil
}
