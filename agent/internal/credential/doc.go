// Package credential sees to it that a device, core or client, has a certificate
// with its key: fetched as a zip when the control plane made the key, or signed
// for a key made here. It knows neither where the files lie nor how the control
// plane is reached.
package credential
