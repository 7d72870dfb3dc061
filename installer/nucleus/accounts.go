package nucleus

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// namePattern is what useradd takes everywhere; maxID is the largest user id
// that is not reserved (4294967295 means "no user" to the kernel).
var namePattern = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

const maxID uint64 = 1<<32 - 2

// ParseAccount splits user[:group]: names, or numbers for accounts that need not
// exist. The error is of kind fault.Invalid.
func ParseAccount(s string) (user, group string, err error) {
	user, group, pair := strings.Cut(s, ":")
	if pair && group == "" {
		return "", "", fault.New(fault.Invalid, "%q ends with a colon; want user or user:group", s)
	}
	for _, name := range []string{user, group} {
		if name == "" && name == group {
			continue
		}
		if id, err := strconv.ParseUint(name, 10, 64); err == nil {
			if id > maxID {
				return "", "", fault.New(fault.Invalid, "%s is no user or group id; they go up to %d", name, maxID)
			}
			continue
		}
		if !namePattern.MatchString(name) {
			return "", "", fault.New(fault.Invalid, "%q is no user or group name: small letters, digits, _ and -, at most 32, not a digit first", name)
		}
	}
	if numeric(user) && !pair {
		return "", "", fault.New(fault.Invalid, "%q is a user id without a group; want id:group", s)
	}
	return user, group, nil
}

func numeric(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// account is a system account that must be there.
type account struct {
	user, group string // group "": the user's own
	home        bool
}

// missingAccounts lists what has to be created: groups first.
func missingAccounts(ctx context.Context, sys System, list []account) ([]string, error) {
	var groups, users []string
	for _, a := range list {
		if a.group != "" && !numeric(a.group) {
			if _, err := sys.Group(ctx, a.group); errors.Is(err, fs.ErrNotExist) {
				groups = append(groups, "group:"+a.group)
			} else if err != nil {
				return nil, err
			}
		}
		if !numeric(a.user) {
			if _, err := sys.User(ctx, a.user); errors.Is(err, fs.ErrNotExist) {
				users = append(users, "user:"+a.user)
			} else if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(groups)
	slices.Sort(users)
	return append(slices.Compact(groups), slices.Compact(users)...), nil
}

// accountsStep creates the accounts that are missing, as system accounts without
// a login. Existing ones are left as they are. Undo removes those that it made.
func (s *Site) accountsStep(v Version, sys System, list []account) Step {
	const name = "accounts"
	var names []string
	for _, a := range list {
		names = append(names, strings.TrimSuffix(a.user+":"+a.group, ":"))
	}
	return Step{
		Name: name, Describe: "create the system accounts " + strings.Join(names, ", ") + " where they are missing",
		Done: func(ctx context.Context) (bool, error) {
			left, err := missingAccounts(ctx, sys, list)
			return len(left) == 0, err
		},
		Do: func(ctx context.Context) error {
			left, err := missingAccounts(ctx, sys, list)
			if err != nil {
				return err
			}
			if err := s.remember(v, name, func() (before, error) { return before{Accounts: left}, nil }); err != nil {
				return err
			}
			for _, what := range left {
				if err := create(ctx, sys, what, list); err != nil {
					return err
				}
			}
			return nil
		},
		Undo: func(ctx context.Context) error {
			r, err := s.recall(v, name)
			if r == nil || err != nil {
				return err
			}
			for _, what := range slices.Backward(r.Accounts) {
				if err := drop(ctx, sys, what); err != nil {
					return err
				}
			}
			return s.forget(v, name)
		},
	}
}

// create makes one account with the tools of shadow, or else those of busybox.
func create(ctx context.Context, sys System, what string, list []account) error {
	kind, name, _ := strings.Cut(what, ":")
	var argv []string
	switch {
	case kind == "group" && has(sys, "groupadd"):
		argv = []string{"groupadd", "--system", name}
	case kind == "group" && has(sys, "addgroup"):
		argv = []string{"addgroup", "-S", name}
	case kind == "user" && has(sys, "useradd"):
		argv = []string{"useradd", "--system", "--shell", nologin(sys)}
	case kind == "user" && has(sys, "adduser"):
		argv = []string{"adduser", "-S", "-D", "-s", nologin(sys)}
	default:
		return fault.New(fault.Unsupported, "the %s %q is missing and this device has neither useradd nor busybox's adduser; create it in the device's image, or name accounts that exist", kind, name)
	}
	if kind == "user" {
		i := slices.IndexFunc(list, func(a account) bool { return a.user == name })
		shadow := argv[0] == "useradd"
		switch a := list[i]; {
		case a.group != "" && shadow:
			argv = append(argv, "--gid", a.group)
		case a.group != "":
			argv = append(argv, "-G", a.group)
		case shadow:
			argv = append(argv, "--user-group")
		}
		switch home := list[i].home; {
		case shadow && home:
			argv = append(argv, "--create-home")
		case shadow:
			argv = append(argv, "--no-create-home")
		case !home:
			argv = append(argv, "-H")
		}
		argv = append(argv, name)
	}
	const taken = 9 // made by somebody else meanwhile
	_, err := run(ctx, sys, Command{Argv: argv}, taken)
	return err
}

func nologin(sys System) string {
	for _, p := range []string{"/usr/sbin/nologin", "/sbin/nologin"} {
		if _, err := sys.Lstat(p); err == nil {
			return p
		}
	}
	return "/bin/false"
}

// drop removes one account that create made.
func drop(ctx context.Context, sys System, what string) error {
	kind, name, _ := strings.Cut(what, ":")
	find := func() error { _, err := sys.Group(ctx, name); return err }
	if kind == "user" {
		find = func() error { _, err := sys.User(ctx, name); return err }
	}
	if err := find(); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	const gone, noHome = 6, 12
	var err error
	switch {
	case kind == "group" && has(sys, "groupdel"):
		_, err = run(ctx, sys, Command{Argv: []string{"groupdel", name}}, gone)
	case kind == "group":
		_, err = run(ctx, sys, Command{Argv: []string{"delgroup", name}})
	case has(sys, "userdel"):
		_, err = run(ctx, sys, Command{Argv: []string{"userdel", "--remove", name}}, gone, noHome)
	default:
		_, err = run(ctx, sys, Command{Argv: []string{"deluser", "--remove-home", name}})
	}
	return err
}
