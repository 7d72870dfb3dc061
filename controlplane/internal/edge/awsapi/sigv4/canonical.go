package sigv4

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// canonicalPaths returns the forms of path, as received, that clients sign.
// Every service but S3 signs the encoded path encoded once more; simple tools
// sign it as it travels; botocore and the SDK for JavaScript first remove empty
// and dot segments.
func canonicalPaths(path string) []string {
	path = cmp.Or(path, "/")
	forms := []string{encodePath(path), path}
	if strings.Contains(path, "//") || strings.Contains(path, "/.") {
		forms = append(forms, encodePath(withoutDots(path)))
	}
	return slices.Compact(forms)
}

func withoutDots(path string) string {
	var kept []string
	for s := range strings.SplitSeq(path, "/") {
		switch s {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, s)
		}
	}
	clean := "/" + strings.Join(kept, "/")
	if len(kept) > 0 && strings.HasSuffix(path, "/") {
		clean += "/"
	}
	return clean
}

// encodePath escapes all but unreserved characters and slashes.
func encodePath(path string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(path) + 16)
	for i := range len(path) {
		if c := path[i]; letter(c) || digit(c) || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// canonicalQueries returns the forms of the query that clients sign: its pairs
// sorted, encoded as received, and in the order in which they came, because the
// SDK for Go sorts before it encodes and then sends them so. The signature of a
// presigned request is not part of it.
func canonicalQueries(raw string, presigned bool) []string {
	type pair struct{ name, value string }
	var pairs []pair
	for p := range strings.SplitSeq(raw, "&") {
		if p == "" {
			continue
		}
		name, value, _ := strings.Cut(p, "=")
		if plain, err := url.QueryUnescape(name); presigned && err == nil && plain == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, pair{name, value})
	}
	join := func() string {
		var b strings.Builder
		b.Grow(len(raw))
		for i, p := range pairs {
			if i > 0 {
				b.WriteByte('&')
			}
			b.WriteString(p.name + "=" + p.value)
		}
		return b.String()
	}
	received := join()
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	return slices.Compact([]string{join(), received})
}

// canonicalHeaders returns the lines of the headers that names lists.
func canonicalHeaders(r *http.Request, names []string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name)
		b.WriteByte(':')
		for i, v := range headerValues(r, name) {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(squeeze(v))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// headerValues also finds what net/http keeps apart from the headers.
func headerValues(r *http.Request, name string) []string {
	if name == "host" {
		return []string{r.Host}
	}
	values := r.Header.Values(name)
	if len(values) == 0 && name == "content-length" && r.ContentLength >= 0 {
		return []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	return values
}

// squeeze trims v and makes each run of spaces one.
func squeeze(v string) string {
	v = strings.Trim(v, " \t")
	if !strings.Contains(v, "  ") {
		return v
	}
	var b strings.Builder
	for i := range len(v) {
		if v[i] != ' ' || v[i-1] != ' ' { // v begins with no space
			b.WriteByte(v[i])
		}
	}
	return b.String()
}

// signingKey is derived anew for each day, region and service.
func signingKey(secret string, s Scope) []byte {
	key := mac([]byte("AWS4"+secret), s.Date)
	key = mac(key, s.Region)
	key = mac(key, s.Service)
	return mac(key, terminator)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexSHA256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
