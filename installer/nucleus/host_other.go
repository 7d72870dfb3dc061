//go:build !unix

package nucleus

import (
	"io/fs"
	"os"
)

const nonBlock = 0

func terminate(p *os.Process) error { return p.Kill() }

func ownerOf(fs.FileInfo) (uid, gid int) { return 0, 0 }

func writable(string) error { return nil } // the write itself will tell

// Trusted returns program: who may change files is not looked at here.
func Trusted(program string) (string, error) { return program, nil }
