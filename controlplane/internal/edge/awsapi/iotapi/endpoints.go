package iotapi

import (
	"context"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) endpointOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "DescribeEndpoint", Method: http.MethodGet, Path: "/endpoint", Call: rest.Handle(a.describeEndpoint)},
	}
}

type describeEndpointIn struct {
	Type string `query:"endpointType" check:"len=0..128"`
}

type describeEndpointOut struct {
	Address string `json:"endpointAddress"`
}

// describeEndpoint answers this server's host for all that a device connects to:
// a bare name, since clients put the scheme before it and their own port behind
// it (iot-api §17).
func (a *api) describeEndpoint(_ context.Context, in *describeEndpointIn) (*describeEndpointOut, error) {
	switch in.Type {
	case "", "iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs":
		return &describeEndpointOut{a.cfg.Host}, nil
	}
	return nil, fault.Field("endpointType", "is %q, want iot:Data, iot:Data-ATS, iot:CredentialProvider or iot:Jobs", in.Type)
}
