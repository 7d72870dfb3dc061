package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/shared/run"
)

// helping asks things of one kind of device.
type helping struct {
	*app
	ask  func(ctx context.Context, c *client, name string, body io.Reader) (*http.Response, error)
	list func(ctx context.Context, c *client, name string, count *int, after *string) (*http.Response, error)
	get  func(ctx context.Context, c *client, name string) (*http.Response, error)
	look time.Duration // between looks at a request
}

// helpLook is short: who asked sits and waits.
const helpLook = 300 * time.Millisecond

func (a *app) coreHelp() []*cobra.Command {
	return helping{a, func(ctx context.Context, c *client, name string, body io.Reader) (*http.Response, error) {
		return c.CreateCoreHelpRequestWithBody(ctx, name, nil, api.MediaType, body)
	}, func(ctx context.Context, c *client, name string, count *int, after *string) (*http.Response, error) {
		return c.ListCoreHelpRequests(ctx, name, &api.ListCoreHelpRequestsParams{Count: count, ExclusiveStartToken: after})
	}, func(ctx context.Context, c *client, name string) (*http.Response, error) {
		return c.GetCore(ctx, name)
	}, min(a.wait, helpLook)}.commands()
}

func (a *app) deviceHelp() []*cobra.Command {
	h := helping{a, func(ctx context.Context, c *client, name string, body io.Reader) (*http.Response, error) {
		return c.CreateDeviceHelpRequestWithBody(ctx, name, nil, api.MediaType, body)
	}, func(ctx context.Context, c *client, name string, count *int, after *string) (*http.Response, error) {
		return c.ListDeviceHelpRequests(ctx, name, &api.ListDeviceHelpRequestsParams{Count: count, ExclusiveStartToken: after})
	}, func(ctx context.Context, c *client, name string) (*http.Response, error) {
		return c.GetDevice(ctx, name)
	}, min(a.wait, helpLook)}
	return h.commands()
}

func (h helping) commands() []*cobra.Command {
	return []*cobra.Command{h.logs(), h.logRange(), h.bundle(), h.restart(), h.diagnose(), h.requests()}
}

// target is whose log, or what is restarted.
type target struct {
	component string
	agent     bool
}

func (t *target) flags(cmd *cobra.Command, agent bool) {
	cmd.Flags().StringVar(&t.component, "component", "", "name of a component; without it, the nucleus")
	if agent {
		cmd.Flags().BoolVar(&t.agent, "agent", false, "the log of the agent")
		cmd.MarkFlagsMutuallyExclusive("component", "agent")
	}
}

func (t target) of() string {
	if t.agent {
		return "agent"
	}
	return "" // what the server takes: the component if one is named, else the nucleus
}

func expires(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "expires", 10*time.Minute, "how long the request waits for a device that is away, 10s to 168h")
}

func (h helping) logs() *cobra.Command {
	var t target
	var lines int
	var since, wait time.Duration
	var follow bool
	cmd := h.command("logs NAME", "Show the last lines of a log of a device", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		n := api.NewHelpRequest{Kind: api.HelpLogsTail, Of: t.of(), Component: t.component, Lines: lines, ExpiresSeconds: int(wait.Seconds())}
		if since > 0 {
			n.Since = api.At(time.Now().Add(-since))
		}
		q, err := h.request(ctx, c, args[0], n)
		if err == nil {
			err = c.printContent(ctx, q)
		}
		for err == nil && follow {
			q, err = h.request(ctx, c, args[0], api.NewHelpRequest{Kind: api.HelpLogsRange, Of: t.of(), Component: t.component, WaitSeconds: 25, Follows: q.RequestID})
			if err == nil {
				err = c.printContent(ctx, q)
			}
		}
		if follow && ctx.Err() != nil {
			err = nil // that is how following ends
		}
		return result{}, err
	})
	t.flags(cmd, true)
	expires(cmd, &wait)
	cmd.Flags().IntVar(&lines, "tail", 200, "at most so many lines, up to 10000")
	cmd.Flags().DurationVar(&since, "since", 0, "no line older than this, such as 2h")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until interrupted; says when something was lost")
	return cmd
}

func (h helping) logRange() *cobra.Command {
	var t target
	var from, file string
	var length int
	var all bool
	var wait time.Duration
	cmd := h.command("log-range NAME", "Fetch a log of a device from a position on", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		w, done, err := writeTo(c.out, file)
		if err != nil {
			return result{}, err
		}
		n := api.NewHelpRequest{Kind: api.HelpLogsRange, Of: t.of(), Component: t.component, From: from, Length: length, ExpiresSeconds: int(wait.Seconds())}
		for {
			q, err := h.request(ctx, c, args[0], n)
			if err == nil {
				c.lost(q)
				err = c.content(ctx, q, w)
			}
			if err != nil {
				return result{}, done(err)
			}
			if !all || !q.More {
				c.note("the log goes on at --from %s", q.Next)
				return result{}, done(nil)
			}
			n.From, n.Follows = "", q.RequestID
		}
	})
	t.flags(cmd, true)
	expires(cmd, &wait)
	cmd.Flags().StringVar(&from, "from", "", "position that a call before named; without it, the oldest byte that the device has")
	cmd.Flags().IntVar(&length, "length", 1<<20, "bytes of the log, up to 4194304; at least one line comes")
	cmd.Flags().BoolVar(&all, "all", false, "up to its end, in pieces of that length")
	cmd.Flags().StringVarP(&file, "output", "o", "-", "file to write; - for standard output")
	return cmd
}

func (h helping) bundle() *cobra.Command {
	var file string
	var wait time.Duration
	cmd := h.command("bundle NAME", "Fetch a support bundle of a device: a zip without secrets", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		w, done, err := writeTo(c.out, file)
		if err != nil {
			return result{}, err
		}
		q, err := h.request(ctx, c, args[0], api.NewHelpRequest{Kind: api.HelpBundle, ExpiresSeconds: int(wait.Seconds())})
		if err == nil {
			err = c.content(ctx, q, w)
		}
		if err := done(err); err != nil {
			return result{}, err
		}
		if file != "-" {
			c.note("%d bytes in %s", q.Size, file)
		}
		return result{}, nil
	})
	expires(cmd, &wait)
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write; - for standard output")
	_ = cmd.MarkFlagRequired("output") // the flag is there
	return cmd
}

func (h helping) restart() *cobra.Command {
	var t target
	var wait time.Duration
	cmd := h.command("restart NAME", "Restart the nucleus of a device, or one component", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		q, err := h.request(ctx, c, args[0], api.NewHelpRequest{Kind: api.HelpRestart, Component: t.component, ExpiresSeconds: int(wait.Seconds())})
		if err != nil {
			return result{}, err
		}
		return result{value: q, line: "restarted"}, nil
	})
	t.flags(cmd, false)
	expires(cmd, &wait)
	return cmd
}

func (h helping) diagnose() *cobra.Command {
	var wait time.Duration
	cmd := h.command("diagnose NAME WHAT", "Run a named diagnostic on a device: doctor, network, disk, processes, clock or nucleus", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
		q, err := h.request(ctx, c, args[0], api.NewHelpRequest{Kind: api.HelpDiagnose, Diagnostic: args[1], ExpiresSeconds: int(wait.Seconds())})
		if err == nil {
			err = c.content(ctx, q, c.out)
		}
		return result{}, err
	})
	expires(cmd, &wait)
	return cmd
}

func (h helping) requests() *cobra.Command {
	var limit int
	return limited(h.command("help-requests NAME", "List what was asked of a device, newest first", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.HelpRequest, string, error) {
			l, err := get[api.HelpRequestList](h.list(ctx, c, args[0], count, after))
			return l.Requests, l.Pagination.LastEvaluated.NextToken, err
		})
		if err != nil {
			return result{}, err
		}
		if len(all) == 0 { // of a device that is there?
			if err := done(h.get(ctx, c, args[0])); err != nil {
				return result{}, err
			}
		}
		r := result{value: api.HelpRequestList{Requests: all}, header: []string{"ID", "KIND", "OF", "BY", "STATUS", "AT", "BYTES", "MESSAGE"}}
		for _, q := range all {
			r.rows = append(r.rows, []any{q.RequestID, q.Kind, strings.TrimSpace(q.Of + " " + q.Component + q.Diagnostic), q.By, q.Status, q.CreatedAt.String(), q.Size, q.Message})
		}
		return r, nil
	}), &limit)
}

// request asks and waits for the end. One that nobody waits for any more is
// withdrawn.
func (h helping) request(ctx context.Context, c *client, name string, n api.NewHelpRequest) (api.HelpRequest, error) {
	b, err := body(n)
	if err != nil {
		return api.HelpRequest{}, err
	}
	q, err := get[api.HelpRequest](h.ask(ctx, c, name, b))
	for err == nil && (q.Status == "waiting" || q.Status == "taken") {
		c.progress("%s: %s", name, q.Status)
		if run.Sleep(ctx, h.look) != nil {
			c.withdraw(ctx, q)
			return q, failure(ExitFailed, "the request is withdrawn")
		}
		q, err = get[api.HelpRequest](c.GetHelpRequest(ctx, q.RequestID))
	}
	c.progress("")
	if err != nil {
		return q, err
	}
	switch q.Status {
	case "done":
		return q, nil
	case "refused":
		return q, failure(ExitDenied, "%s: %s", name, q.Message)
	}
	return q, failure(ExitTaskFailed, "%s: %s: %s", name, q.Status, q.Message)
}

func (c *client) withdraw(ctx context.Context, q api.HelpRequest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = done(c.DeleteHelpRequest(ctx, q.RequestID)) // it expires anyway
}

// printContent writes what came to standard output, and says when something is
// missing before it.
func (c *client) printContent(ctx context.Context, q api.HelpRequest) error {
	c.lost(q)
	return c.content(ctx, q, c.out)
}

func (c *client) lost(q api.HelpRequest) {
	if q.Lost {
		c.note("some lines were lost: the log was rotated faster than it was read")
	}
}

// content streams what a device sent to w, and compares it with its digest.
func (c *client) content(ctx context.Context, q api.HelpRequest, w io.Writer) error {
	if q.Size == 0 {
		return nil
	}
	res, err := c.GetHelpContent(ctx, q.RequestID, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "*/*")
		return nil
	})
	if err != nil || res.StatusCode != http.StatusOK {
		_, _, err := read(res, err)
		return err
	}
	defer res.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), res.Body)
	if err != nil {
		return failure(ExitUnreachable, "reading the content: %w", err)
	}
	if n != q.Size || hex.EncodeToString(sum.Sum(nil)) != q.Digest {
		return failure(ExitFailed, "the content that came is not what the device sent")
	}
	return nil
}

// writeTo opens where a command's content goes: standard output for "-", else a
// file that appears when it is whole. done ends it with the error so far.
func writeTo(out io.Writer, file string) (w io.Writer, done func(error) error, err error) {
	if file == "-" {
		return out, func(err error) error { return err }, nil
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".ggfleet-*")
	if err != nil {
		return nil, nil, failure(ExitFailed, "--output: %w", err)
	}
	return f, func(failed error) error {
		err := f.Close()
		if failed == nil && err == nil {
			err = os.Rename(f.Name(), file)
		}
		if failed == nil && err == nil {
			return nil
		}
		_ = os.Remove(f.Name()) // half of it helps nobody
		if failed != nil {
			return failed
		}
		return failure(ExitFailed, "--output: writing %s: %w", file, err)
	}, nil
}
