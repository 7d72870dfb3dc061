// Package rest speaks restJson1, the protocol of the Greengrass V2 and IoT
// APIs: it finds the operation of a request, reads the members from path, query,
// header and body into a struct, checks them, calls the operation and writes
// its answer or error (greengrassv2-api §1).
//
// An operation is one line of a table and a function from a struct to a struct.
// What a member is called, where it travels and what it may hold is said by the
// tags of the struct, so that handlers hold no protocol.
//
// The package knows no operation and no domain. Who may call is decided by an
// Authenticator before anything of the request is looked at.
package rest
