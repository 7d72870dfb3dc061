package assetlibrary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Bounds of one look-up.
const (
	chunkIDs   = 100    // devices asked for in one request
	chunkBytes = 6000   // of their ids in the URL; front doors take 8 to 10 KiB
	pageSize   = 100    // items asked for in a page
	maxItems   = 100000 // devices and groups that one look-up may find
	parallel   = 8      // groups read at once
)

// item is a device or a group.
type item struct {
	DeviceID  string `json:"deviceId"` // empty: a group
	ThingARN  string `json:"awsIotThingArn"`
	GroupPath string `json:"groupPath"`
}

type page struct {
	Results    []item `json:"results"`
	Pagination *struct {
		Offset number `json:"offset"`
		Count  number `json:"count"`
	} `json:"pagination"`
}

// number is an integer that some versions write as text.
type number int

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.Atoi(strings.Trim(string(b), `"`))
	if err == nil {
		*n = number(v)
	}
	return nil // what cannot be read is as if it were not there
}

// found collects things, each once, and what was left out.
type found struct {
	region  string
	seen    map[string]bool
	things  []string
	skipped []string
}

func (c *Client) newFound() *found { return &found{region: c.region, seen: map[string]bool{}} }

// device adds the thing of a device, or the reason why there is none.
func (f *found) device(it item) {
	thing, why := thingOf(it.ThingARN, f.region)
	if why != "" {
		f.skip("device %s %s", it.DeviceID, why)
	} else if !f.seen[thing] {
		f.seen[thing] = true
		f.things = append(f.things, thing)
	}
}

func (f *found) skip(format string, args ...any) {
	f.skipped = append(f.skipped, fmt.Sprintf(format, args...))
}

// thingOf returns the name in a thing's ARN, or why it cannot be used.
func thingOf(arn, region string) (thing, why string) {
	if arn == "" {
		return "", "has no thing"
	}
	parts := strings.SplitN(arn, ":", 6) // a thing name may have colons
	if len(parts) != 6 || parts[0] != "arn" {
		return "", "has a thing whose ARN is none: " + printable(arn)
	}
	name, ok := strings.CutPrefix(parts[5], "thing/")
	switch {
	case !ok || name == "":
		return "", "has a thing whose ARN is none: " + printable(arn)
	case parts[3] != region:
		return "", "has its thing in region " + printable(parts[3])
	}
	return name, ""
}

// Devices returns the things of devices, and in words what was left out: ids
// that the Asset Library does not know (W-130), devices without a thing, things
// of another region.
func (c *Client) Devices(ctx context.Context, ids []string) (things, skipped []string, err error) {
	f := c.newFound()
	asked := map[string]bool{}
	var chunk []string
	size := 0
	flush := func() error {
		err := c.bulk(ctx, f, chunk)
		chunk, size = nil, 0
		return err
	}
	for _, id := range ids {
		if asked[id] {
			continue
		}
		asked[id] = true
		if id == "" || strings.Contains(id, ",") {
			f.skip("device %q cannot be asked for: ids are not empty and have no comma", id)
			continue
		}
		if n := len(url.QueryEscape(id)) + 3; len(chunk) == chunkIDs || len(chunk) > 0 && size+n > chunkBytes {
			if err := flush(); err != nil {
				return nil, nil, err
			}
		}
		chunk, size = append(chunk, id), size+len(url.QueryEscape(id))+3
	}
	if len(chunk) > 0 {
		if err := flush(); err != nil {
			return nil, nil, err
		}
	}
	return f.things, f.skipped, nil
}

// bulk asks for some devices at once. An Asset Library may refuse all of them
// because it does not know one: then the halves are asked for.
func (c *Client) bulk(ctx context.Context, f *found, ids []string) error {
	var p page
	err := c.get(ctx, "/bulkdevices?deviceIds="+escape(strings.Join(ids, ","))+"&expandComponents=false&attributes=awsIotThingArn&includeGroups=", &p)
	if errors.Is(err, fault.NotFound) {
		if len(ids) == 1 {
			f.skip("device %s is unknown", ids[0])
			return nil
		}
		half := len(ids) / 2
		if err := c.bulk(ctx, f, ids[:half]); err != nil {
			return err
		}
		return c.bulk(ctx, f, ids[half:])
	}
	if err != nil {
		return err
	}
	known := map[string]item{} // the Asset Library keeps ids in lower case
	for _, it := range p.Results {
		known[strings.ToLower(it.DeviceID)] = it
	}
	for _, id := range ids {
		if it, ok := known[strings.ToLower(id)]; ok {
			f.device(it)
		} else {
			f.skip("device %s is unknown", id)
		}
	}
	return nil
}

// Group returns the things of the devices that are direct members of a group,
// and in words what was left out. A group that does not exist is
// fault.NotFound.
func (c *Client) Group(ctx context.Context, path string) (things, skipped []string, err error) {
	devices, err := c.members(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	f := c.newFound()
	for _, it := range devices {
		f.device(it)
	}
	return f.things, f.skipped, nil
}

func (c *Client) members(ctx context.Context, path string) ([]item, error) {
	unknown := fault.New(fault.NotFound, "group %s is unknown to the Asset Library", printable(path))
	if !strings.HasPrefix(path, "/") {
		return nil, fault.New(fault.NotFound, "group %q is unknown to the Asset Library: paths begin with a slash", path)
	}
	items, err := c.pages(ctx, "/groups/"+escape(path)+"/members/devices?")
	if errors.Is(err, fault.NotFound) {
		return nil, unknown
	}
	return items, err
}

// Query returns the things of the devices that a query finds, then those of the
// members of the groups that it finds, and in words what was left out.
func (c *Client) Query(ctx context.Context, query json.RawMessage) (things, skipped []string, err error) {
	q, err := parseQuery(query)
	if err != nil {
		return nil, nil, err
	}
	items, err := c.pages(ctx, "/search?"+q.encode()+"&")
	if err != nil {
		return nil, nil, err
	}
	f := c.newFound()
	var groups []string
	for _, it := range items {
		switch {
		case it.DeviceID != "":
			f.device(it)
		case it.GroupPath != "":
			groups = append(groups, it.GroupPath)
		default:
			f.skip("a result of the query is neither device nor group")
		}
	}
	members, errs := c.groups(ctx, groups)
	for i, devices := range members {
		if errors.Is(errs[i], fault.NotFound) {
			f.skip("%s", fault.Message(errs[i]))
		} else if errs[i] != nil {
			return nil, nil, errs[i]
		}
		for _, it := range devices {
			f.device(it)
		}
	}
	return f.things, f.skipped, nil
}

// groups reads the members of several groups. After an error other than
// fault.NotFound the rest is not asked for.
func (c *Client) groups(ctx context.Context, paths []string) (members [][]item, errs []error) {
	members, errs = make([][]item, len(paths)), make([]error, len(paths))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var total atomic.Int64
	slots := make(chan struct{}, parallel)
	for i, path := range paths {
		slots <- struct{}{}
		if ctx.Err() != nil {
			errs[i] = context.Cause(ctx)
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			members[i], errs[i] = c.members(ctx, path)
			if total.Add(int64(len(members[i]))) > maxItems {
				errs[i] = tooMany()
			}
			if errs[i] != nil && !errors.Is(errs[i], fault.NotFound) {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	return members, errs
}

// pages reads all pages of a listing. start is its path up to where the
// parameters of the page follow.
func (c *Client) pages(ctx context.Context, start string) ([]item, error) {
	var all []item
	seen := map[item]bool{}
	for offset := 0; ; {
		var p page
		if err := c.get(ctx, fmt.Sprintf("%soffset=%d&count=%d", start, offset, pageSize), &p); err != nil {
			return nil, err
		}
		added := 0
		for _, it := range p.Results {
			if !seen[it] {
				seen[it] = true
				all = append(all, it)
				added++
			}
		}
		if len(p.Results) == 0 || p.Pagination == nil {
			return all, nil // an empty page is the last one, whatever it says of further pages
		}
		if added == 0 {
			return nil, fault.New(fault.Unavailable, "the Asset Library gives the page at offset %d again and again", offset)
		}
		if len(all) > maxItems {
			return nil, tooMany()
		}
		next := int(p.Pagination.Offset) + int(p.Pagination.Count)
		if next <= offset {
			next = offset + len(p.Results)
		}
		offset = next
	}
}

func tooMany() error {
	return fault.New(fault.TooLarge, "the Asset Library finds more than %d devices and groups; name fewer in one task", maxItems)
}

// escape encodes s as one part of a path or query, a space as %20: what is
// encoded twice is decoded the second time by rules that know no plus.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
