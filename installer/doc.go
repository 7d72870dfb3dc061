// Package installer is the root of the library that both sides of ggfleet use
// to put Greengrass on a device: the control plane to write the installer
// configuration (config) and to describe what it offers (nucleus.Manifest), the
// agent to carry the installation out (nucleus, durable). It knows neither MQTT
// nor HTTP nor where its input came from.
package installer
