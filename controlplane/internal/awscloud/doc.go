// Package awscloud puts the fleet service's ports for deployments, components,
// core devices and associations on AWS IoT and AWS IoT Greengrass V2, through
// the SDK. What AWS cannot do as the ports ask is in ADR 0010.
//
// It owns the SDK: no type of it leaves the package, and errors leave as kinds of
// fault. It must not know the fleet service, nor whose endpoint it talks to.
package awscloud
