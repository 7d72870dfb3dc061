package help

import (
	"bytes"
	"strings"
)

// secretName reports whether a name says that a secret follows: by what stands
// anywhere in it, or at its end, in small letters and without separators.
func secretName(name []byte) bool {
	n := string(bytes.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r == '_' || r == '-' || r == '.':
			return -1
		}
		return r
	}, name))
	if strings.Contains(n, "tokenexchange") { // a component of every core
		return false
	}
	for _, part := range [...]string{
		"password", "passwd", "passphrase", "passwort", "pwd", "secret", "token", "apikey", "accesskey", "privatekey", "signingkey", "sharedkey",
		"accountkey", "encryptionkey", "credential", "activationcode", "pinvalue", "nonce", "sessionid", "auth",
	} {
		if strings.Contains(n, part) {
			return true
		}
	}
	for _, end := range [...]string{"psk", "pin", "otp", "pass", "pw"} {
		if strings.HasSuffix(n, end) {
			return true
		}
	}
	return false
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// withoutValues removes what follows a name that says so, behind a colon or an
// equals sign: words, quoted texts, lists.
func withoutValues(l []byte) []byte {
	var out []byte
	from := 0 // of what is not in out yet
	for i := 0; i < len(l); i++ {
		if l[i] != ':' && l[i] != '=' {
			continue
		}
		end := i
		for end > from && (l[end-1] == ' ' || l[end-1] == '\t') {
			end--
		}
		for end > from && (l[end-1] == '"' || l[end-1] == '\'' || l[end-1] == '\\') {
			end--
		}
		begin := end
		for begin > from && wordByte(l[begin-1]) {
			begin--
		}
		if begin == end || !secretName(l[begin:end]) {
			continue
		}
		at := i + 1
		for at < len(l) && (l[at] == '=' || l[at] == '>' || l[at] == ' ' || l[at] == '\t') {
			at++
		}
		after := valueEnd(l, at)
		if word := string(l[at:after]); word == "" || word == "null" || word == "true" || word == "false" {
			continue
		}
		out = append(append(out, l[from:at]...), removed...)
		from, i = after, after-1
	}
	if from == 0 {
		return l
	}
	return append(out, l[from:]...)
}

// valueEnd returns where the value that begins at at ends.
func valueEnd(l []byte, at int) int {
	until := func(from int, set string) int {
		if i := bytes.IndexAny(l[from:], set); i >= 0 {
			return from + i + 1
		}
		return len(l)
	}
	rest := l[at:]
	switch {
	case len(rest) == 0:
		return at
	case bytes.HasPrefix(rest, []byte(`\"`)):
		if i := bytes.Index(rest[2:], []byte(`\"`)); i >= 0 {
			return at + 2 + i + 2
		}
		return len(l)
	case rest[0] == '"':
		for i := at + 1; i < len(l); i++ {
			switch l[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(l)
	case rest[0] == '\'':
		return until(at+1, "'")
	case rest[0] == '[':
		return until(at+1, "]")
	case rest[0] == '{':
		return until(at+1, "}")
	}
	if i := bytes.IndexAny(rest, " \t\"',;&}])"); i >= 0 {
		return at + i
	}
	return len(l)
}

const keyWord = 40 // characters: an AWS secret; a line of a key has 64

// withoutKeys removes long words that are of all kinds of characters, as keys
// are. Digests in hex and paths stay.
func withoutKeys(l []byte) []byte {
	var out []byte
	from := 0
	for i := 0; i < len(l); i++ {
		end := i
		for end < len(l) && keyByte(l[end]) {
			end++
		}
		if end-i >= keyWord && looksRandom(l[i:end]) {
			for end < len(l) && l[end] == '=' {
				end++
			}
			out = append(append(out, l[from:i]...), removed...)
			from = end
		}
		i = end
	}
	if from == 0 {
		return l
	}
	return append(out, l[from:]...)
}

func keyByte(c byte) bool { return wordByte(c) && c != '.' || c == '+' || c == '/' }

func looksRandom(w []byte) bool {
	upper, lower, digits := 0, 0, 0
	for _, c := range w {
		switch {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= 'g' && c <= 'z':
			lower++
		case c >= '0' && c <= '9':
			digits++
		}
	}
	path := w[0] == '/' && bytes.Count(w, []byte("/")) > 2
	return upper >= 6 && lower >= 5 && digits >= 1 && !path
}
