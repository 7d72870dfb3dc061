package doctor

import "syscall"

const mountedNoExecute = 0x8 // ST_NOEXEC of statfs(2)

func noExecute(path string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(path, &st) == nil && st.Flags&mountedNoExecute != 0
}

func openFiles() *uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return nil
	}
	return &l.Cur
}
