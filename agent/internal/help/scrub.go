package help

import (
	"bytes"
	"regexp"
	"slices"
)

// removed stands where a secret stood.
const removed = "[removed]"

// maxKeyLines is how many lines a private key may have before its end is taken
// to be missing.
const maxKeyLines = 200

// scrubber takes secrets out of lines. It keeps what it must know of the lines
// before: a private key in PEM has many.
type scrubber struct {
	rules []rule
	inKey bool
	lines int // of the key so far
}

// rule takes one kind of secret out of a line. Lines with none of its marks, in
// small letters, or not all that must be there as well, are not looked at closer.
type rule struct {
	marks   []string
	also    string
	pattern *regexp.Regexp
	with    string
}

var (
	keyBegin = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----`)

	wholeKey    = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----|$)`)
	activation  = regexp.MustCompile(`ggf1\.[A-Za-z0-9_-]+=*`)
	headers     = regexp.MustCompile(`(?i)((?:proxy-)?authorization|(?:set-)?cookie2?|x-api-key|x-auth-token)(\\?["']?\s*[:=,]\s*).*$`)
	schemes     = regexp.MustCompile(`(?i)\b(bearer|basic|negotiate|aws4-hmac-sha256)\s+\S.*$`)
	userinfo    = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s@"'<>]*@`)
	ownLink     = regexp.MustCompile(`(https?://[^/\s"']+/a/)[^\s"'<>]+`)
	presigned   = regexp.MustCompile(`(?i)([?&;](?:x-amz-signature|x-amz-security-token|x-amz-credential|signature|sig|awsaccesskeyid)=)[^&;\s"'<>]+`)
	accessKeyID = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b`)
	webToken    = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}`)
	vendorToken = regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|xox[abeprs]-[A-Za-z0-9-]{8,}|whsec_[A-Za-z0-9+/=]{8,}|glpat-[\w-]{12,}|sk[-_][\w-]{16,}|pk_[\w-]{16,}|AIza[\w-]{20,}|hf_\w{16,}|npm_\w{16,}|ggt_\w{16,})`)
	flagValue   = regexp.MustCompile(`(?i)(\s--?(?:password|passwd|pass|passphrase|secret|token|api-?key|key|pin)\s+)(?:"[^"]*"|'[^']*'|\S+)`)
	element     = regexp.MustCompile(`(?i)(<(?:password|passwd|secret|token|key|apikey)[^>]*>)[^<]+`)
)

const (
	keyMark = "PRIVATE KEY"
	keyEnd  = "-----END "
)

// allRules returns the rules. The order counts: what is wide comes before what is
// narrow.
func allRules() []rule {
	return []rule{
		{[]string{"private key"}, "-----", wholeKey, removed},
		{[]string{"ggf1."}, "", activation, removed},
		{[]string{"authorization", "cookie", "x-api-key", "x-auth"}, "", headers, "${1}${2}" + removed},
		{[]string{"bearer ", "basic ", "negotiate ", "aws4-hmac"}, "", schemes, "${1} " + removed},
		{[]string{"://"}, "@", userinfo, "${1}" + removed + "@"},
		{[]string{"/a/"}, "://", ownLink, "${1}" + removed},
		{[]string{"signature=", "sig=", "x-amz-", "awsaccesskeyid="}, "=", presigned, "${1}" + removed},
		{[]string{"akia", "asia"}, "", accessKeyID, removed},
		{[]string{"eyj"}, "", webToken, removed},
		{[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox", "whsec_", "glpat-", "sk-", "sk_", "pk_", "aiza", "hf_", "npm_", "ggt_"}, "", vendorToken, removed},
		{[]string{"-pass", "-secret", "-token", "-key", "-api", "-pin"}, "", flagValue, "${1}" + removed},
		{[]string{"<pass", "<secret", "<token", "<key", "<api"}, "", element, "${1}" + removed},
	}
}

// line returns l, which holds no end of line, without secrets, and without what
// a terminal would obey. ok is false for a line that says nothing any more.
func (s *scrubber) line(l []byte) (out []byte, ok bool) {
	if s.inKey {
		s.lines++
		if i := bytes.Index(l, []byte(keyEnd)); i >= 0 || s.lines > maxKeyLines {
			s.inKey = false
		}
		return nil, false
	}
	l = plain(l)
	begins := false
	if bytes.Contains(l, []byte(keyMark)) {
		at := keyBegin.FindIndex(l)
		begins = at != nil && !bytes.Contains(l[at[1]:], []byte(keyEnd))
	}
	lower := bytes.ToLower(l)
	if s.rules == nil {
		s.rules = allRules()
	}
	for _, r := range s.rules {
		if r.marked(lower) {
			l = r.pattern.ReplaceAll(l, []byte(r.with))
		}
	}
	l = withoutKeys(withoutValues(l))
	if begins {
		s.inKey, s.lines = true, 0
	}
	return l, true
}

func (r rule) marked(lower []byte) bool {
	return slices.ContainsFunc(r.marks, func(m string) bool { return bytes.Contains(lower, []byte(m)) }) && bytes.Contains(lower, []byte(r.also))
}

// plain replaces bytes that are no text: control characters would be obeyed by
// the terminal that shows them, and junk is no UTF-8.
func plain(l []byte) []byte {
	if !bytes.ContainsFunc(l, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return l
	}
	out := bytes.ToValidUTF8(l, []byte("?"))
	return bytes.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, out)
}

// text returns a text of few lines without secrets.
func text(t string) string {
	var s scrubber
	var out []byte
	for l := range bytes.SplitSeq([]byte(t), []byte("\n")) {
		if l, ok := s.line(l); ok {
			out = append(append(out, l...), '\n')
		}
	}
	return string(bytes.TrimSuffix(out, []byte("\n")))
}
