package arch_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// A variable of the playbook that the caller of a patch sets, and what follows.
var playbookVariable = regexp.MustCompile(`\b((?:iot|greengrass)_[a-z0-9_]+)\b([^a-z]*[a-z0-9]+)`)

func TestThePlaybookOfTheInstaller(t *testing.T) {
	t.Parallel()
	var plays []struct {
		Vars  map[string]string `yaml:"vars"`
		Tasks []map[string]any  `yaml:"tasks"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "docs/playbooks/greengrass-installer.yml")), &plays))
	require.Len(t, plays, 1)

	t.Run("W-115: it decodes every variable, optional ones included", func(t *testing.T) {
		require.NotEmpty(t, plays[0].Vars)
		for name, text := range plays[0].Vars {
			for _, m := range playbookVariable.FindAllStringSubmatch(text, -1) {
				assert.Regexp(t, `\b`+m[1]+`( \| default\(''\)\))? \| b64decode`, text, "vars.%s", name)
			}
		}
	})
	t.Run("W-116: run again it changes nothing, checks digests and leaves no copy of a key", func(t *testing.T) {
		var blocks int
		for _, task := range plays[0].Tasks {
			for _, module := range []string{"ansible.builtin.unarchive", "ansible.builtin.command"} {
				if args, ok := task[module].(map[string]any); ok {
					assert.Contains(t, args, "creates", task["name"])
				}
			}
			if args, ok := task["ansible.builtin.get_url"].(map[string]any); ok && args["url"] != "{{ config_url }}" { // made for this core, by us
				assert.Contains(t, args, "checksum", task["name"])
			}
			if _, ok := task["block"]; ok {
				blocks++
				assert.Equal(t, "not key.stat.exists", task["when"], "a key that is there stays")
				last := task["always"].([]any)[0].(map[string]any)["ansible.builtin.file"].(map[string]any)
				assert.Equal(t, "absent", last["state"], "what was unpacked is removed, whatever happens")
			}
		}
		assert.Equal(t, 1, blocks, "certificate and key")
	})
}
