package config

// Runtimes that a document can be for.
const (
	RuntimeClassic = "classic"
	RuntimeLite    = "lite"
)

// Runtime tells which nucleus a document is for by the service that it configures:
// RuntimeClassic, RuntimeLite, or "" when it configures neither or cannot be read.
func Runtime(doc []byte) string {
	tree, _, err := parse(doc)
	if err != nil {
		return ""
	}
	services, err := find(tree.Content[0], "services")
	if err != nil || services == nil {
		return ""
	}
	for name, runtime := range map[string]string{"aws.greengrass.NucleusLite": RuntimeLite, "aws.greengrass.Nucleus": RuntimeClassic} {
		if n, err := find(services, name); err == nil && n != nil {
			return runtime
		}
	}
	return ""
}
