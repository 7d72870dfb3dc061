// Package deviceapi is the HTTPS edge for devices (port 8443): the Greengrass
// data plane and the credentials endpoint that an unmodified nucleus calls
// (nucleus-contract §4, §5.1), and the calls of our own agent.
//
// Whoever calls is known by the client certificate, looked up anew for each
// request; only enrolment comes without one. Policies decide; thing variables do
// not resolve here (iot-api §16), so a built-in rule adds that the thing named in
// path or header is the certificate's.
//
// It is plain net/http: paths hold ARNs with raw colons or percent escapes
// (trap 34), and there is nothing here that a framework would save.
package deviceapi
