package rest

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
)

// Operation is one operation of a service.
type Operation struct {
	Name   string // CreateDeployment
	Method string
	// Path has the labels in braces: {name} is one segment as the caller wrote it
	// before escaping, {name+} all that are left, slashes included.
	Path string
	// Status of success; 0 means 200. An answer 204 has no body.
	Status int
	// Reads says that a method other than GET changes nothing.
	Reads bool
	Call  Call
}

func (o Operation) changes() bool { return o.Method != http.MethodGet && !o.Reads }

// Call is what an operation does; Handle makes it.
type Call struct {
	in   reflect.Type
	call func(ctx context.Context, in any) (any, error)
}

// Empty is the input or output of an operation that has no members.
type Empty struct{}

// Handle makes a Call of f. Every exported field of In is a member:
//
//	path:"name", query:"name", header:"name", or json:"name" for the body
//	check:"required,len=1..64,pattern=token"
//
// The checks are required; len=a..b (characters, or bytes of a blob); range=a..b
// (numbers); items=a..b (entries of a list or map); enum=A|B; pattern=NAME of the
// service's patterns. Either bound may be left out. A check that begins with item.,
// key. or value. is about what a list or map holds. Pointers tell absent from
// zero; a JSON null is absent. Members that In does not have are ignored.
//
// Out is encoded as encoding/json does; nil is an empty object.
func Handle[In, Out any](f func(ctx context.Context, in *In) (*Out, error)) Call {
	return Call{
		in: reflect.TypeFor[In](),
		call: func(ctx context.Context, in any) (any, error) {
			typed, ok := in.(*In)
			if !ok { // bind makes values of this type only
				return nil, fmt.Errorf("input is %T", in)
			}
			out, err := f(ctx, typed)
			if out == nil {
				return Empty{}, err
			}
			return out, err
		},
	}
}

// Caller is who signed a request.
type Caller struct {
	AccessKey string
	ReadOnly  bool // may only call what changes nothing
}

type callerKey struct{}

// CallerOf returns who signed the request that ctx belongs to.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
