//go:build unix

package client

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// giveToGroup lets a group read name, and nobody else but the owner.
func giveToGroup(root *os.Root, name, group string) error {
	g, err := user.LookupGroup(group)
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
		return fault.New(fault.NotFound, "there is no group %s on this device", group)
	}
	if err != nil {
		return err
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if info, err := root.Stat(name); err == nil && info.Mode().Perm() == 0o640 && gidOf(info) == id {
		return nil
	}
	return errors.Join(root.Chown(name, -1, id), root.Chmod(name, fs.FileMode(0o640)))
}

func gidOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}
