package config_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/installer/config"
)

func TestWhichNucleusADocumentIsFor(t *testing.T) {
	for doc, want := range map[string]string{
		"services: {aws.greengrass.Nucleus: {version: 2.12.0}}": config.RuntimeClassic,
		"services:\n  aws.greengrass.NucleusLite: {}\n":         config.RuntimeLite,
		"services: {}": "", "system: {}": "", "services: 7": "", "": "", "\x00": "", "services: {a: 1}\n---\nb: 1": "",
	} {
		assert.Equal(t, want, config.Runtime([]byte(doc)), doc)
	}
}
