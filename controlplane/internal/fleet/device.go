package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Device is the fleet's record of a client device.
type Device struct {
	Name      string              `json:"name"`
	Core      string              `json:"coreName,omitempty"`  // empty: its core was deleted
	Artifacts map[string]Artifact `json:"artifacts,omitempty"` // by ArtifactCerts

	ProvisioningTemplate string `json:"provisioningTemplate,omitempty"`

	// CertificatePending: the device waits for the CSR of its key, as Pending says.
	CertificatePending bool                  `json:"certificatePending,omitempty"`
	Pending            *PendingCertificate   `json:"pending,omitempty"`
	Completed          *CompletedCertificate `json:"completed,omitempty"` // for its own key

	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"` // zero until the first update
}

// DeviceFilter selects client devices.
type DeviceFilter struct {
	Core string // empty: any
}

// DeleteDevice says what goes with a client device's record and artifacts
// (cdf-services §2.4 E18).
type DeleteDevice struct {
	Deprovision  bool // the thing and its certificate
	Disassociate bool // the association with its core
}

const devicePrefix = prefix + "device/"

func deviceKey(name string) string { return devicePrefix + name }

// devicesOfKey changes with every device that is given to a core, so that
// deleting the core cannot miss one.
func devicesOfKey(core string) string { return prefix + "devices-of/" + core }

// Device returns a client device, or fault.NotFound.
func (s *Service) Device(ctx context.Context, name string) (Device, error) {
	d, err := s.deviceRecord(ctx, name)
	if err == nil && d.Rev == 0 {
		err = noDevice(name)
	}
	return d.Value, err
}

func noDevice(name string) error {
	return fault.New(fault.NotFound, "client device %s does not exist", name)
}

// deviceRecord reads a device's record; Rev is 0 if there is none.
func (s *Service) deviceRecord(ctx context.Context, name string) (state.Record[Device], error) {
	if names.CheckThing(name) != nil {
		return state.Record[Device]{}, noDevice(name)
	}
	return state.ReadOr[Device](ctx, s.cfg.Store, deviceKey(name))
}

// Devices returns the client devices that the filter selects, by name, and the
// name to continue after ("" at the end).
func (s *Service) Devices(ctx context.Context, f DeviceFilter, p Page) ([]Device, string, error) {
	if err := s.loaded(ctx); err != nil {
		return nil, "", err
	}
	var out []Device
	var more bool
	if f.Core == "" {
		var items []state.Item[Device]
		items, more = s.devices.all.Range(after(devicePrefix, p.After), count(p), nil)
		for _, it := range items {
			out = append(out, *it.Value)
		}
	} else {
		out, more = s.devices.of(f.Core, p.After, count(p))
	}
	if !more || len(out) == 0 {
		return out, "", nil
	}
	return out, out[len(out)-1].Name, nil
}

// devices is every client device in memory, also in the order of their cores.
// Safe for concurrent use.
type devices struct {
	all *state.Mirror[Device]

	mu     sync.RWMutex // guards byCore
	byCore *btree.BTreeG[ofCore]
}

// ofCore is the place of a device among those of its core.
type ofCore struct{ core, name string }

func newDevices(store state.Store) *devices {
	d := &devices{byCore: btree.NewG(32, func(a, b ofCore) bool {
		return a.core < b.core || a.core == b.core && a.name < b.name
	})}
	d.all = state.NewMirror(store, devicePrefix, d.change)
	return d
}

func (d *devices) change(_ string, before, now *Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before != nil && before.Core != "" {
		d.byCore.Delete(ofCore{before.Core, before.Name})
	}
	if now != nil && now.Core != "" {
		d.byCore.ReplaceOrInsert(ofCore{now.Core, now.Name})
	}
}

// of returns at most limit devices of a core with names after after, in order.
func (d *devices) of(core, after string, limit int) (list []Device, more bool) {
	for {
		names, rest := d.names(core, after, limit-len(list))
		for _, n := range names {
			after = n
			// A device that left in this moment is not there; the next takes its place.
			if v, _, ok := d.all.Get(deviceKey(n)); ok && v.Core == core {
				list = append(list, *v)
			}
		}
		if !rest || len(list) == limit {
			return list, rest
		}
	}
}

func (d *devices) names(core, after string, limit int) (names []string, more bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	d.byCore.AscendGreaterOrEqual(ofCore{core, after}, func(x ofCore) bool {
		if x.core != core {
			return false
		}
		if x.name == after {
			return true
		}
		if more = len(names) == limit; !more {
			names = append(names, x.name)
		}
		return !more
	})
	return names, more
}

// isCore reports whether the name is a core of this fleet.
func (s *Service) isCore(ctx context.Context, name string) (bool, error) {
	_, err := s.cfg.Store.Get(ctx, coreKey(name))
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// tellDevice adds the event of a device that was created or deleted, or not, to b.
// taskID is empty when no task did it.
func (s *Service) tellDevice(b *state.Batch, t event.Type, name, taskID string, r task.Result) {
	d := deviceDetail{TaskID: taskID, DeviceName: name, Status: eventSuccess}
	if r.Status != task.Success {
		d.Status, d.Message = eventFailed, r.Message
	}
	event.Add(b, t, name, s.stamp(), d)
}
