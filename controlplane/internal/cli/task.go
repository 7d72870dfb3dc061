package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/shared/run"
)

// waits says whether a command that begins a task waits for its end.
type waits struct{ yes, no bool }

// waiting gives a command that begins a task its flags.
func (a *app) waiting(c *cobra.Command, w *waits) *cobra.Command {
	c.Flags().BoolVar(&w.yes, "wait", true, "wait for the task, and fail when it does")
	c.Flags().BoolVar(&w.no, "no-wait", false, "print the task's id and do not wait")
	c.MarkFlagsMutuallyExclusive("no-wait", "wait")
	return a.posting(c)
}

// begin reads the answer to the creation of a task, and waits for its end or
// prints its id.
func (w waits) begin(res *http.Response, err error, wait func(id string) (result, error)) (result, error) {
	header, _, err := read(res, err)
	if err != nil {
		return result{}, err
	}
	id := header.Get("x-taskid")
	if w.no || !w.yes {
		return result{value: map[string]string{"taskId": id}, line: id}, nil
	}
	return wait(id)
}

// look is how far a task is.
type look struct {
	result        result // to print at the end
	text          string // progress
	ended, failed bool
	message       string // why it failed
}

// await looks at a task until it has ended.
func (a *app) await(ctx context.Context, c *client, task string, at func() (look, error)) (result, error) {
	for {
		l, err := at()
		if err != nil {
			return result{}, err
		}
		c.progress("%s: %s", task, l.text)
		if l.ended {
			c.progress("")
			if l.failed {
				return l.result, failure(ExitTaskFailed, "%s ended in Failure%s", task, because(l.message))
			}
			return l.result, nil
		}
		if err := run.Sleep(ctx, a.wait); err != nil {
			return result{}, failure(ExitFailed, "waiting for %s: %w", task, err)
		}
	}
}

// finished reports whether work on a task has ended: a Failure is set while
// batches still run (spec cdf-services §3.2).
func finished(s api.TaskStatus, complete, total *int) bool {
	switch s {
	case api.TaskStatusSuccess, api.TaskStatusFailure:
		return complete == nil || total == nil || *complete >= *total
	case api.TaskStatusWaiting, api.TaskStatusInProgress:
	}
	return false
}

// because adds a message that may be empty; items have messages of their own.
func because(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

// counted says how far a task is.
func counted(s api.TaskStatus, succeeded, failed, total int) string {
	text := fmt.Sprintf("%s, %d of %d", s, succeeded+failed, total)
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	return text
}

// note tells the reader of standard error something.
func (c *client) note(format string, args ...any) {
	fmt.Fprintf(c.log, "ggfleet: "+format+"\n", args...)
}

// progress overwrites one line, on a terminal only.
func (c *client) progress(format string, args ...any) {
	f, ok := c.log.(*os.File)
	if !ok {
		return
	}
	if i, err := f.Stat(); err != nil || i.Mode()&os.ModeCharDevice == 0 {
		return
	}
	fmt.Fprintf(f, "\r\x1b[K"+format, args...)
}
