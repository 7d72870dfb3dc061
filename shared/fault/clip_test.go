package fault_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestATextIsClippedBetweenCharacters(t *testing.T) {
	for name, tc := range map[string]struct {
		s    string
		n    int
		want string
	}{
		"one that fits":                   {"press-07", 8, "press-07"},
		"one byte too many":               {"press-07!", 8, "press…"},
		"a character that does not fit":   {"ab€€", 7, "ab…"},
		"a character that fits":           {"ab€€", 8, "ab€€"},
		"nothing fits":                    {"€uro", 3, "…"},
		"no text at all, only its middle": {strings.Repeat("\x80", 9), 8, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, fault.Clip(tc.s, tc.n))
		})
	}
	assert.Len(t, fault.Brief(strings.Repeat("x", 1<<20)), 64)
}

func FuzzAClippedText(f *testing.F) {
	f.Add("ab€€€€", 7)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 3 + (n & 0xff)
		c := fault.Clip(s, n)
		assert.LessOrEqual(t, len(c), n)
		assert.True(t, strings.HasPrefix(s, strings.TrimSuffix(c, "…")))
		assert.Equal(t, c, fault.Clip(c, n), "clipped again")
		assert.True(t, utf8.ValidString(c) || !utf8.ValidString(s))
	})
}
