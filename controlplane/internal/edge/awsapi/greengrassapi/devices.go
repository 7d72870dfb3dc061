package greengrassapi

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
)

func (a *api) deviceOperations() []rest.Operation {
	const core, connectivity = "/greengrass/v2/coreDevices/{coreDeviceThingName}", "/greengrass/things/{thingName}/connectivityInfo"
	return []rest.Operation{
		{Name: "BatchAssociateClientDeviceWithCoreDevice", Method: "POST", Path: core + "/associateClientDevices", Call: rest.Handle(a.associate)},
		{Name: "BatchDisassociateClientDeviceFromCoreDevice", Method: "POST", Path: core + "/disassociateClientDevices", Call: rest.Handle(a.disassociate)},
		{Name: "ListClientDevicesAssociatedWithCoreDevice", Method: "GET", Path: core + "/associatedClientDevices", Call: rest.Handle(a.listAssociated)},
		{Name: "GetConnectivityInfo", Method: "GET", Path: connectivity, Call: rest.Handle(a.getConnectivity)},
		{Name: "UpdateConnectivityInfo", Method: "PUT", Path: connectivity, Call: rest.Handle(a.updateConnectivity)},
	}
}

type batchIn struct {
	Core    string        `path:"coreDeviceThingName" check:"len=1..128"`
	Entries []clientEntry `json:"entries" check:"required,items=1..100"`
}

type clientEntry struct {
	Thing string `json:"thingName" check:"required,len=1..128"`
}

type batchOut struct {
	Errors []entryError `json:"errorEntries"`
}

type entryError struct {
	Thing   string `json:"thingName"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (a *api) associate(ctx context.Context, in *batchIn) (*batchOut, error) {
	failed, err := a.cfg.Greengrass.Associate(ctx, in.Core, in.things())
	return batch(in, failed, err)
}

func (a *api) disassociate(ctx context.Context, in *batchIn) (*batchOut, error) {
	failed, err := a.cfg.Greengrass.Disassociate(ctx, in.Core, in.things())
	return batch(in, failed, err)
}

func (in *batchIn) things() []string {
	out := make([]string, len(in.Entries))
	for i, e := range in.Entries {
		out[i] = e.Thing
	}
	return out
}

func batch(in *batchIn, failed []greengrass.Failure, err error) (*batchOut, error) {
	if err != nil {
		return nil, about(kindCore, in.Core, err)
	}
	out := &batchOut{Errors: make([]entryError, len(failed))}
	for i, f := range failed {
		e := awsError(f.Err)
		if e == nil {
			e = new(rest.Error)
			*e = internal()
		}
		out.Errors[i] = entryError{Thing: f.Device, Code: e.Code, Message: e.Message}
	}
	return out, nil
}

type listAssociatedIn struct {
	Core       string `path:"coreDeviceThingName" check:"len=1..128"`
	MaxResults *int32 `query:"maxResults" check:"range=1..100"`
	NextToken  string `query:"nextToken"`
}

type associatedDevice struct {
	Thing string    `json:"thingName"`
	At    rest.Time `json:"associationTimestamp"`
}

type listAssociatedOut struct {
	Devices   []associatedDevice `json:"associatedClientDevices"`
	NextToken string             `json:"nextToken,omitempty"`
}

func (a *api) listAssociated(ctx context.Context, in *listAssociatedIn) (*listAssociatedOut, error) {
	after, err := rest.After(in.NextToken, "associated", in.Core)
	if err != nil {
		return nil, err
	}
	if _, err := a.cfg.Registry.Thing(ctx, in.Core); err != nil {
		return nil, about(kindCore, in.Core, err)
	}
	list, more, err := a.cfg.Greengrass.Associations(ctx, in.Core, after, rest.Limit(in.MaxResults, pageSize))
	if err != nil {
		return nil, err
	}
	out := &listAssociatedOut{Devices: make([]associatedDevice, len(list))}
	for i, x := range list {
		out.Devices[i] = associatedDevice{Thing: x.Device, At: rest.At(x.At)}
	}
	if more {
		out.NextToken = rest.Token(list[len(list)-1].Device, "associated", in.Core)
	}
	return out, nil
}

type thingIn struct {
	Thing string `path:"thingName" check:"len=1..128"`
}

// connectivityInfo has the capitals of the first Greengrass (greengrassv2-api §1.1).
type connectivityInfo struct {
	ID       string `json:"Id"`
	Host     string `json:"HostAddress"`
	Port     int32  `json:"PortNumber" check:"range=0..65535"`
	Metadata string `json:"Metadata"`
}

type getConnectivityOut struct {
	Info []connectivityInfo `json:"ConnectivityInfo"`
}

func (a *api) getConnectivity(ctx context.Context, in *thingIn) (*getConnectivityOut, error) {
	list, err := a.cfg.Greengrass.Connectivity(ctx, in.Thing)
	if err != nil {
		return nil, about(kindThing, in.Thing, err)
	}
	out := &getConnectivityOut{Info: make([]connectivityInfo, len(list))}
	for i, e := range list {
		out.Info[i] = connectivityInfo{ID: e.ID, Host: e.Host, Port: e.Port, Metadata: e.Metadata}
	}
	return out, nil
}

type updateConnectivityIn struct {
	Thing string             `path:"thingName" check:"len=1..128"`
	Info  []connectivityInfo `json:"ConnectivityInfo" check:"required"`
}

type updateConnectivityOut struct {
	Version string `json:"Version"`
}

func (a *api) updateConnectivity(ctx context.Context, in *updateConnectivityIn) (*updateConnectivityOut, error) {
	list := make([]greengrass.Endpoint, len(in.Info))
	for i, e := range in.Info {
		list[i] = greengrass.Endpoint{ID: e.ID, Host: e.Host, Port: e.Port, Metadata: e.Metadata}
	}
	version, err := a.cfg.Greengrass.SetConnectivity(ctx, in.Thing, list)
	if err != nil {
		return nil, about(kindThing, in.Thing, err)
	}
	return &updateConnectivityOut{Version: version}, nil
}
