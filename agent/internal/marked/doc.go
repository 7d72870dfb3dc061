// Package marked finds processes by a variable of their environment. Whoever
// starts a program that an agent which is killed would lose marks it so; what that
// program starts inherits the mark.
//
// It does not start anything. On Linux only: other systems do not tell.
package marked
