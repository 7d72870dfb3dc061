package help

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

const (
	maxProcesses   = 10_000 // that are looked at
	shownProcesses = 20
)

type processFact struct {
	pid     int
	name    string // without arguments, which may hold secrets
	state   string
	kib     uint64 // resident
	threads string
}

// processes lists those that need the most memory.
func (h *Host) processes(_ context.Context, w io.Writer) error {
	d, err := os.Open("/proc")
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(maxProcesses)
	_ = d.Close()
	if err != nil {
		return err
	}
	var all []processFact
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			if p, ok := readProcess(pid); ok {
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, func(a, b processFact) int { return cmp.Or(cmp.Compare(b.kib, a.kib), cmp.Compare(a.pid, b.pid)) })
	fmt.Fprintf(w, "%d processes; by memory:\nPID\tMEMORY\tTHREADS\tSTATE\tNAME\n", len(all))
	for _, p := range all[:min(len(all), shownProcesses)] {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", p.pid, size(p.kib<<10), p.threads, p.state, p.name)
	}
	return nil
}

func readProcess(pid int) (p processFact, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return p, false
	}
	p.pid = pid
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		v := string(bytes.TrimSpace(value))
		switch string(key) {
		case "Name":
			p.name = v
		case "State":
			p.state = v
		case "Threads":
			p.threads = v
		case "VmRSS":
			number, _, _ := bytes.Cut(bytes.TrimSpace(value), []byte(" "))
			p.kib, _ = strconv.ParseUint(string(number), 10, 64)
		}
	}
	return p, true
}
