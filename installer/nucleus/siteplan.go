package nucleus

import (
	"context"
	"runtime"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Plan returns how v comes onto this device. The plan prepares: checks,
// accounts, files beside the others, configuration. Nothing that runs is
// touched, so it may be run and undone at any time. The step makes v the one
// that runs at the next start of the nucleus; its Undo restores exactly what was
// before, also in another process after a kill, until Prune. Neither starts nor
// stops anything: the caller does, with what Launch says.
//
// Every step may be run again after a kill at any point. m is what Inspect said
// about the archive, or Manifest about what is unpacked.
//
// An error here is about v, m and o and is of kind fault.Invalid or
// fault.Unsupported; what is wrong with the device is an error of the plan's
// step "check", of kind fault.Invalid, fault.Conflict or fault.Unsupported. That
// step changes nothing and is done when there is nothing wrong.
func (s *Site) Plan(v Version, m Manifest, o Options, sys System) (Plan, Step, error) {
	if err := v.Check(); err != nil {
		return nil, Step{}, err
	}
	if m.Name != v.Name || m.Version != v.Version {
		return nil, Step{}, fault.New(fault.Invalid, "the distribution is %s %s, but %s %s is to be installed", m.Name, m.Version, v.Name, v.Version)
	}
	switch m.Layout {
	case LayoutProgram:
		return Plan{s.unpackStep(v, o)}, s.turnStep(v), nil
	case LayoutClassic, LayoutLitePackage, LayoutLiteFiles:
		if err := onlyLinux(); err != nil {
			return nil, Step{}, err
		}
	default:
		return nil, Step{}, fault.New(fault.Unsupported, "the layout %q of %s is not known", m.Layout, m.Name)
	}
	if m.Layout == LayoutClassic {
		c, err := s.classic(v, o, sys)
		if err != nil {
			return nil, Step{}, err
		}
		return c.plan()
	}
	l, err := s.lite(v, m, o, sys)
	if err != nil {
		return nil, Step{}, err
	}
	return l.plan()
}

// Launch returns how v is run once the plan's switch is done.
func (s *Site) Launch(v Version, m Manifest, o Options, sys System) (Launch, error) {
	switch m.Layout {
	case LayoutProgram:
		program, args := s.Command(v, m)
		return Launch{Program: program, Args: args, Dir: s.path}, nil
	case LayoutClassic:
		c, err := s.classic(v, o, sys)
		if err != nil {
			return Launch{}, err
		}
		return c.launch()
	case LayoutLitePackage, LayoutLiteFiles:
		l, err := s.lite(v, m, o, sys)
		if err != nil {
			return Launch{}, err
		}
		return l.launch(), nil
	}
	return Launch{}, fault.New(fault.Unsupported, "the layout %q of %s is not known", m.Layout, m.Name)
}

// checkStep is a step that is done when check finds nothing wrong.
func checkStep(what string, check func(ctx context.Context) error) Step {
	return Step{
		Name: "check", Describe: "look at " + what,
		Done: func(ctx context.Context) (bool, error) {
			err := check(ctx)
			return err == nil, err
		},
		Do: check,
	}
}

// unpackStep is UnpackStep with the archive of the options.
func (s *Site) unpackStep(v Version, o Options) Step {
	step := s.UnpackStep(v, o.Archive, o.Format)
	if o.Archive == "" {
		step.Do = func(context.Context) error {
			return fault.New(fault.NotFound, "%s %s is not unpacked here and no archive was named", v.Name, v.Version)
		}
	}
	return step
}

// turnStep is SwitchStep with what was before read from the device.
func (s *Site) turnStep(v Version) Step {
	const name = "switch"
	step := s.SwitchStep(v, nil)
	do := step.Do
	step.Do = func(ctx context.Context) error {
		err := s.remember(v, name, func() (before, error) {
			to, err := s.current()
			return before{States: []state{{Target: to}}}, err
		})
		if err != nil {
			return err
		}
		return do(ctx)
	}
	remove := step.Undo
	step.Undo = func(ctx context.Context) error {
		r, err := s.recall(v, name)
		if r == nil || err != nil {
			return err
		}
		if to := r.States[0].Target; to == "" {
			err = remove(ctx)
		} else {
			err = durable.Symlink(s.root, to, currentLink)
		}
		if err != nil {
			return err
		}
		return s.forget(v, name)
	}
	return step
}

func onlyLinux() error {
	if runtime.GOOS == "linux" {
		return nil
	}
	return fault.New(fault.Unsupported, "installing a Greengrass nucleus on %s is not done by ggfleet; its installation there (loader.cmd and greengrass.xml for Windows) is left to AWS's instructions", runtime.GOOS)
}
