package nucleus

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// systemdDir is where an administrator's units lie.
const systemdDir = "/etc/systemd/system"

// LiteUnits are the units of nucleus lite's runtime besides LiteTarget: the
// services that must be active when it is healthy, and the sockets that wake
// them.
func LiteUnits() (services, sockets []string) {
	for _, d := range []string{"ggconfigd", "iotcored", "tesd", "ggdeploymentd", "gg-fleet-statusd", "ggpubsubd", "gghealthd", "ggipcd"} {
		services = append(services, "ggl.core."+d+".service")
	}
	services = append(services, "ggl.aws.greengrass.TokenExchangeService.service")
	for _, s := range []string{"aws_iot_tes", "aws_iot_mqtt", "gg_config", "gg_health", "gg_fleet_status", "gg_deployment", "gg_pubsub", "ipc_component", "gg-ipc.socket"} {
		sockets = append(sockets, "ggl."+s+".socket")
	}
	return services, sockets
}

// systemd reports whether systemd runs this host.
func systemd(sys System) bool {
	_, err := sys.Lstat("/run/systemd/system")
	return err == nil && has(sys, "systemctl")
}

func reload(ctx context.Context, sys System) error {
	_, err := run(ctx, sys, Command{Argv: []string{"systemctl", "daemon-reload"}})
	return err
}

// enabled asks which of the units start with the device. A unit that is not
// there is not enabled.
func enabled(ctx context.Context, sys System, units []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, u := range units {
		r, err := sys.Run(ctx, Command{Argv: []string{"systemctl", "is-enabled", u}})
		if err != nil {
			return nil, err
		}
		state := strings.TrimSpace(string(r.Stdout))
		out[u] = state == "enabled" || state == "static" || state == "indirect" || state == "generated"
	}
	return out, nil
}

func allEnabled(ctx context.Context, sys System, units []string) (bool, error) {
	now, err := enabled(ctx, sys, units)
	for _, on := range now {
		if !on {
			return false, err
		}
	}
	return true, err
}

func enable(ctx context.Context, sys System, units []string) error {
	_, err := run(ctx, sys, Command{Argv: append([]string{"systemctl", "enable"}, units...)})
	return err
}

// backToEnabled makes the units start with the device as they did.
func backToEnabled(ctx context.Context, sys System, was map[string]bool) error {
	units := slices.Sorted(maps.Keys(was))
	now, err := enabled(ctx, sys, units)
	if err != nil {
		return err
	}
	on, off := []string{"systemctl", "enable"}, []string{"systemctl", "disable"}
	for _, u := range units {
		switch {
		case was[u] && !now[u]:
			on = append(on, u)
		case now[u] && !was[u]:
			off = append(off, u)
		}
	}
	for _, argv := range [][]string{on, off} {
		if len(argv) > 2 {
			if _, err := run(ctx, sys, Command{Argv: argv}); err != nil {
				return err
			}
		}
	}
	return nil
}

// onlyOff are the units that were off: they are turned off while the new
// version's units are there, the others are turned on once the old ones are.
func onlyOff(was map[string]bool) map[string]bool {
	off := map[string]bool{}
	for u, on := range was {
		if !on {
			off[u] = false
		}
	}
	return off
}

// enableStep has units start with the device.
func (s *Site) enableStep(v Version, sys System, units ...string) Step {
	const name = "enable"
	return Step{
		Name: name, Describe: "have systemd start " + strings.Join(units, ", ") + " with the device",
		Done: func(ctx context.Context) (bool, error) { return allEnabled(ctx, sys, units) },
		Do: func(ctx context.Context) error {
			err := s.remember(v, name, func() (before, error) {
				was, err := enabled(ctx, sys, units)
				return before{Enabled: was}, err
			})
			if err != nil {
				return err
			}
			if err := reload(ctx, sys); err != nil {
				return err
			}
			return enable(ctx, sys, units)
		},
		Undo: func(ctx context.Context) error {
			r, err := s.recall(v, name)
			if r == nil || err != nil {
				return err
			}
			if err := backToEnabled(ctx, sys, r.Enabled); err != nil {
				return err
			}
			return s.forget(v, name)
		},
	}
}

// active reports whether a unit runs.
func active(ctx context.Context, sys System, unit string) (bool, error) {
	r, err := sys.Run(ctx, Command{Argv: []string{"systemctl", "is-active", unit}})
	state := strings.TrimSpace(string(r.Stdout))
	return state == "active" || state == "activating" || state == "reloading", err
}

// refuseOther is an error when another nucleus runs on the device: two would
// drop each other from the broker for ever.
func refuseOther(ctx context.Context, sys System, unit, what string) error {
	if !systemd(sys) {
		return nil
	}
	on, err := active(ctx, sys, unit)
	if err != nil {
		return err
	}
	if on {
		return fault.New(fault.Conflict, "%s runs on this device (%s); two nuclei with one name drop each other from the broker: remove it first (ggfleet-agent nucleus remove)", what, unit)
	}
	return nil
}
