// Package greengrassapi is the Greengrass V2 HTTP API (version 2020-11-30): a
// table of its 29 operations, the structs of their members, and handlers that
// hand them to the self-hosted cloud (greengrassv2-api §2-4).
//
// It translates and decides nothing: protocol is package rest's, rules are those
// of the services behind it.
package greengrassapi
