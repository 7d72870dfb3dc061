// Package selfhosted is the cloud that runs in this process: it puts the
// registry, the jobs and the Greengrass service together behind the ports of
// internal/cloud, and answers devices over MQTT.
//
// It is a bounded context of its own with AWS semantics: it does not know the
// fleet service, and one could run it alone.
package selfhosted
