package fault

import "unicode/utf8"

// Clip returns s if it has at most n bytes, else as much of it as fits with "…"
// behind it, cut between characters: for texts that others chose and that are
// stored, logged or shown. n is 3 at least.
func Clip(s string, n int) string {
	const more = "…"
	if len(s) <= n {
		return s
	}
	end := n - len(more)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

// Brief is what a message repeats of its input: at most 64 bytes.
func Brief(s string) string { return Clip(s, 64) }
