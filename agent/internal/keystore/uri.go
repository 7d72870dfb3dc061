package keystore

import (
	"net/url"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// token is a pkcs11: URI, as far as it says where keys are.
type token struct {
	ref    string
	module string // the library that speaks to the token
	label  string
	serial string
	object string // what the labels of the keys begin with
	pin    string // the file that holds it
}

// parseURI reads pkcs11:token=LABEL;object=NAME?module-path=FILE&pin-source=FILE
// (RFC 7512).
func parseURI(ref string) (t token, err error) {
	wrong := func(format string, args ...any) (token, error) {
		return token{}, fault.New(fault.Invalid, "the reference of the key: "+format+"; want pkcs11:token=LABEL?module-path=/usr/lib/….so&pin-source=FILE", args...)
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(ref, "pkcs11:"), "?")
	t = token{ref: ref, object: "ggfleet-agent"}
	known := map[string]*string{"token": &t.label, "serial": &t.serial, "object": &t.object, "module-path": &t.module, "pin-source": &t.pin}
	for _, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		name, value, ok := strings.Cut(part, "=")
		if part == "" {
			continue
		}
		into := known[name]
		switch {
		case name == "pin-value":
			return wrong("a PIN does not belong into it: write it to a file with mode 0600 and name that in pin-source")
		case !ok || into == nil:
			return wrong("%q is not understood", name)
		}
		if *into, err = url.PathUnescape(value); err != nil {
			return wrong("%q is not escaped rightly", part)
		}
	}
	t.pin = strings.TrimPrefix(t.pin, "file:")
	switch {
	case t.module == "":
		return wrong("module-path is missing")
	case t.label == "" && t.serial == "":
		return wrong("token is missing")
	case t.pin == "":
		return wrong("pin-source is missing")
	}
	return t, nil
}
