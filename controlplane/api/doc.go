// Package api is the fleet API as its callers see it: the OpenAPI document, and
// the types and the client that are generated from it.
//
// fleet.openapi.yaml is the source; *.gen.go is made from it and never edited.
// asyncapi.yaml describes what agents publish, as shared/protocol has it.
// The package knows nothing of the server behind it: the server side is generated
// into internal/edge/fleetapi, which alone imports gin.
package api

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config models.config.yaml fleet.openapi.yaml
//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config server.config.yaml fleet.openapi.yaml

// MediaType is the vendor media type of requests and answers (spec cdf-services
// §1.1). Plain application/json is taken as well.
const MediaType = "application/vnd.aws-cdf-v1.0+json"
