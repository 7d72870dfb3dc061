package object_test

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"a", "a/b/c.zip", "Templates/größe 1.json", "a..b/.hidden", strings.Repeat("x", 255)} {
		assert.NoError(t, object.CheckKey(key), key)
	}
	for _, key := range []string{
		"", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\x00b", "a\nb", `a\b`, "\xff",
		".sgwtmp/x", strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x",
	} {
		assert.ErrorIs(t, object.CheckKey(key), fault.Invalid, "%q", key)
	}
}

func FuzzCheckKey(f *testing.F) {
	f.Add("a/b")
	f.Add("../a")
	f.Fuzz(func(t *testing.T, key string) {
		if object.CheckKey(key) != nil {
			return
		}
		root := "/root/bucket"
		joined := path.Join(root, key)
		assert.Equal(t, root+"/"+key, joined, "an accepted key names the same file when it is joined to a directory")
	})
}
