package deviceapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Help returns what is asked of this device.
func (c *Client) Help(ctx context.Context) (protocol.HelpList, error) {
	var out protocol.HelpList
	return out, c.callJSON(ctx, http.MethodGet, protocol.PathHelp, nil, &out)
}

// TakeHelp takes a request for one run.
func (c *Client) TakeHelp(ctx context.Context, id string, t protocol.HelpTake) (protocol.HelpOrder, error) {
	var out protocol.HelpOrder
	return out, c.callJSON(ctx, http.MethodPost, helpPath(id, protocol.HelpTakePath), t, &out)
}

// SendHelp sends a part of what a run answers.
func (c *Client) SendHelp(ctx context.Context, id, run string, part int, content []byte) error {
	path := fmt.Sprintf("%s?run=%s&part=%d", helpPath(id, protocol.HelpContentPath), url.QueryEscape(run), part)
	_, err := c.call(ctx, http.MethodPut, path, content)
	return err
}

// ReportHelp tells how a run ended.
func (c *Client) ReportHelp(ctx context.Context, id string, r protocol.HelpResult) error {
	var out struct{}
	return c.callJSON(ctx, http.MethodPost, helpPath(id, protocol.HelpResultPath), r, &out)
}

func helpPath(id, call string) string { return protocol.HelpPathOf(url.PathEscape(id), call) }
