package selfupdate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Read returns the record of the agent in root, without the lock; the zero value
// when it never updated itself.
func Read(root string) (r Record, err error) {
	b, err := os.ReadFile(filepath.Join(root, "agent", RecordName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

// Status writes what runs as the agent in root, and how its updates stand.
// packaged is the version of the packaged agent.
func Status(w io.Writer, root, packaged string) error {
	r, err := Read(root)
	if err != nil {
		return fmt.Errorf("the record of updates: %w", err)
	}
	keys, err := Keys(root)
	agent := packaged + " (packaged)"
	if c := r.Committed; c != nil && !c.overtaken(packaged) {
		agent = fmt.Sprintf("%s (release; packaged is %s)", c.Version, packaged)
	}
	fmt.Fprintf(w, "agent:    %s\n", agent)
	if t := r.Trial; t != nil {
		state := fmt.Sprintf("on trial, start %d of %d", t.Starts, maxStarts)
		if t.Waiting {
			state = "waits for the control plane, " + t.Reason
		}
		fmt.Fprintf(w, "update:   %s %s\n", t.Version, state)
	} else if l := r.Last; l.State != "" {
		fmt.Fprintf(w, "update:   %s\n", strings.TrimSuffix(fmt.Sprintf("%s %s: %s", l.Version, l.State, l.Reason), ": "))
	}
	if len(keys) == 0 {
		fmt.Fprintln(w, "updates:  off, no update key is trusted")
	} else {
		fmt.Fprintf(w, "updates:  signed with one of %d keys\n", len(keys))
	}
	return err
}
