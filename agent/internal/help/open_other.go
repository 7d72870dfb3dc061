//go:build !unix

package help

const nonBlock = 0
