package inventory

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// fact makes a pseudo file's content a text that can be shown: one line, ended
// by NUL or a line feed, bounded. Placeholders of careless makers are nothing.
func fact(b []byte) string {
	if i := bytes.IndexAny(b, "\x00\n"); i >= 0 {
		b = b[:i]
	}
	s := strings.ToValidUTF8(string(b[:min(len(b), maxFact)]), "")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s))
	switch strings.ToLower(strings.Trim(s, ".")) {
	case "to be filled by o.e.m", "default string", "system serial number", "system product name", "not specified", "none", "0", "n/a":
		return ""
	}
	return s
}

// number reads the first field of a pseudo file: a finite number that is not
// negative.
func number(b []byte) (float64, bool) {
	f := strings.Fields(string(b))
	if len(f) == 0 {
		return 0, false
	}
	v, err := strconv.ParseFloat(f[0], 64)
	return v, err == nil && v >= 0 && !math.IsInf(v, 0) && v < 1<<53
}

// memory reads MemTotal and MemAvailable of /proc/meminfo, which are in KiB.
func memory(b []byte) (total, used uint64, ok bool) {
	var available uint64
	found := 0
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		v, err := strconv.ParseUint(f[0], 10, 50)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			total, found = v<<10, found|1
		case "MemAvailable":
			available, found = v<<10, found|2
		}
	}
	if found != 3 || available > total {
		return 0, 0, false
	}
	return total, total - available, true
}

// celsius reads a sensor's file, which is in thousandths of a degree. Sensors
// that are not there often say absurd things.
func celsius(b []byte) (float64, bool) {
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 32)
	t := math.Round(float64(v)/100) / 10
	return t, err == nil && t > -60 && t < 150 && v != 0
}

// prettyName reads PRETTY_NAME of /etc/os-release.
func prettyName(b []byte) string {
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "PRETTY_NAME="); ok {
			return fact([]byte(strings.Trim(v, `"'`)))
		}
	}
	return ""
}

// Bits of a route's flags.
const (
	routeUp     = 1
	routeReject = 0x200
)

// routes4 reads the default routes of /proc/net/route. Addresses there are hex
// in the machine's byte order, least significant first on all that Greengrass
// runs on.
func routes4(b []byte) (out []protocol.DefaultRoute) {
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan() && len(out) < maxRoutes; {
		f := strings.Fields(sc.Text())
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		gateway, err2 := hex.DecodeString(f[2])
		if err != nil || err2 != nil || len(gateway) != 4 || flags&routeUp == 0 || flags&routeReject != 0 {
			continue
		}
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], binary.LittleEndian.Uint32(gateway))
		out = appendRoute(out, f[0], netip.AddrFrom4(a))
	}
	return out
}

// routes6 reads the default routes of /proc/net/ipv6_route.
func routes6(b []byte) (out []protocol.DefaultRoute) {
	const nowhere = "00000000000000000000000000000000"
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan() && len(out) < maxRoutes; {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[0] != nowhere || f[1] != "00" || f[9] == "lo" {
			continue
		}
		flags, err := strconv.ParseUint(f[8], 16, 32)
		gateway, err2 := hex.DecodeString(f[4])
		if err != nil || err2 != nil || len(gateway) != 16 || flags&routeUp == 0 || flags&routeReject != 0 {
			continue
		}
		out = appendRoute(out, f[9], netip.AddrFrom16([16]byte(gateway)))
	}
	return out
}

func appendRoute(out []protocol.DefaultRoute, name string, gateway netip.Addr) []protocol.DefaultRoute {
	r := protocol.DefaultRoute{Interface: fact([]byte(name))}
	if !gateway.IsUnspecified() {
		r.Gateway = gateway.String()
	}
	if r.Interface == "" || slices.Contains(out, r) {
		return out
	}
	return append(out, r)
}
