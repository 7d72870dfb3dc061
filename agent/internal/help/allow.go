package help

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// shownValue and shownFolder are what is shown of a configuration: members where
// they hold one value, and where they hold others. Whatever else there is stays on
// the device.
func shownValue(key string) bool {
	return slices.Contains([]string{
		"thingName", "rootpath", "rootPath", "rootCaPath", "certificateFilePath",
		"version", "componentType", "awsRegion", "iotDataEndpoint", "iotCredEndpoint", "iotRoleAlias", "greengrassDataPlaneEndpoint",
		"greengrassDataPlanePort", "envStage", "fipsMode", "s3EndpointType", "noProxyAddresses", "posixUser", "posixShell", "windowsUser",
		"port", "keepAliveTimeoutMs", "pingTimeoutMs", "operationTimeoutMs", "maxInFlightPublishes", "maxMessageSizeInBytes", "maxPublishRetry",
		"level", "format", "outputType", "fileSizeKB", "totalLogsSizeKB", "outputDirectory", "deploymentPollingFrequencySeconds",
		"periodicStatusPublishIntervalSeconds", "componentStoreMaxSizeBytes",
	}, key)
}

func shownFolder(key string) bool {
	return slices.Contains([]string{"system", "services", "configuration", "mqtt", "logging", "runWithDefault", "networkProxy", "fleetStatus", "telemetry"}, key)
}

const (
	maxConfig  = 1 << 20
	maxDepth   = 12
	awsService = "aws.greengrass."
)

// writeConfig writes the members of a YAML file that are on the list, a line
// each.
func writeConfig(w io.Writer, path string) error {
	f, err := nucleus.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return err
	}
	if len(b) > maxConfig {
		return fault.New(fault.TooLarge, "the file has more than %d bytes", maxConfig)
	}
	var root yaml.Node
	if yaml.Unmarshal(b, &root) != nil { // its error quotes the file
		return errors.New("the file is no YAML")
	}
	left := 0
	if len(root.Content) > 0 {
		if err := showMembers(w, root.Content[0], nil, &left); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(w, "# %d members are not shown\n", left)
	return err
}

// showMembers goes through a mapping at path and counts what it leaves out.
func showMembers(w io.Writer, n *yaml.Node, path []string, left *int) error {
	if n.Kind != yaml.MappingNode || len(path) > maxDepth {
		*left++
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		at := append(slices.Clone(path), key)
		switch {
		case value.Kind == yaml.MappingNode && mayEnter(path, key):
			if err := showMembers(w, value, at, left); err != nil {
				return err
			}
		case value.Kind == yaml.ScalarNode && shownValue(key) && !strings.Contains(value.Value, "\n"):
			if _, err := fmt.Fprintf(w, "%s: %s\n", strings.Join(at, "."), value.Value); err != nil {
				return err
			}
		default:
			*left++
		}
	}
	return nil
}

// mayEnter lets the names of components be seen, but of their configurations only
// those of the runtime itself: others' hold what their makers like.
func mayEnter(path []string, key string) bool {
	if len(path) > 0 && path[len(path)-1] == "services" {
		return protocol.HelpName(key)
	}
	if key == "configuration" && len(path) > 0 {
		return strings.HasPrefix(path[len(path)-1], awsService)
	}
	return shownFolder(key)
}
