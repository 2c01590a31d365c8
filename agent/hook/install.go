package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DefaultDir is where libvirt looks for its hooks.
const DefaultDir = "/etc/libvirt/hooks"

// manyHooks is the first libvirt that runs every program in qemu.d, beside the one
// called qemu: 6.5.0, in libvirt's own counting.
const manyHooks = 6*1_000_000 + 5*1_000

// marker stands in every file that Install writes, and in no other.
const marker = "# written by headroom: headroom-hook"

// ErrForeign means that a file of somebody else stands where the hook has to be.
var ErrForeign = errors.New("another hook is there")

// Place says where the hook belongs on a host, and what stands in it.
type Place struct {
	Dir     string // libvirt's folder of hooks; "" is DefaultDir
	Version uint32 // libvirt's, as major*1,000,000 + minor*1,000 + release
	Program string // absolute path of headroom
	Socket  string // the agent's
	ByHand  ByHand
}

// State is what is installed.
type State struct {
	Path      string `json:"path"`
	Installed bool   `json:"installed"`
	// Current is false when the file is not what Install would write now.
	Current bool `json:"current"`
	// Others are hooks of somebody else, which run beside this one.
	Others []string `json:"others"`
	// Foreign says that somebody else's file stands at Path.
	Foreign bool `json:"foreign"`
}

// Path is the file that is the hook. Only libvirt from 6.5 on runs several.
func (p Place) Path() string {
	if p.Version >= manyHooks {
		return filepath.Join(p.dir(), "qemu.d", "headroom")
	}
	return filepath.Join(p.dir(), "qemu")
}

func (p Place) dir() string {
	if p.Dir == "" {
		return DefaultDir
	}
	return p.Dir
}

// Install writes the hook, or brings it up to date. It never touches another's
// file: one in the way is ErrForeign. first is true when libvirtd found no qemu
// hook at all before, and so has to be restarted to look for one.
func (p Place) Install() (changed, first bool, err error) {
	s, err := p.Status()
	if err != nil {
		return false, false, err
	}
	switch {
	case s.Foreign:
		return false, false, fmt.Errorf("%w: %s, and this libvirt (before 6.5) runs no second one; put this at the beginning of it:\n"+
			"[ \"$2 $3\" != \"migrate begin\" ] || %s --socket %s hook run --by-hand=%s -- \"$@\" || exit 1",
			ErrForeign, s.Path, p.Program, p.Socket, p.ByHand)
	case s.Installed && s.Current:
		return false, false, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return false, false, fmt.Errorf("folder of the hook: %w", err)
	}
	if err := replace(s.Path, p.script()); err != nil {
		return false, false, fmt.Errorf("write the hook: %w", err)
	}
	return true, !s.Installed && len(s.Others) == 0, nil
}

// Remove deletes the hook, wherever an earlier version of libvirt had it, and
// nobody else's. It reports the files that it deleted.
func (p Place) Remove() ([]string, error) {
	var gone []string
	for _, path := range []string{filepath.Join(p.dir(), "qemu.d", "headroom"), filepath.Join(p.dir(), "qemu")} {
		text, err := read(path)
		if err != nil {
			return gone, err
		}
		if !strings.Contains(text, marker) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return gone, fmt.Errorf("remove the hook: %w", err)
		}
		gone = append(gone, path)
	}
	return gone, nil
}

// Status looks at what is installed.
func (p Place) Status() (State, error) {
	s := State{Path: p.Path(), Others: []string{}}
	files, err := filepath.Glob(filepath.Join(p.dir(), "qemu.d", "*"))
	if err != nil {
		return s, fmt.Errorf("list the hooks: %w", err)
	}
	for _, path := range append(files, filepath.Join(p.dir(), "qemu")) {
		text, err := read(path)
		if err != nil {
			return s, err
		}
		ours := strings.Contains(text, marker)
		info, err := os.Stat(path)
		exists := err == nil
		switch {
		case path == s.Path && ours:
			s.Installed = exists && info.Mode().IsRegular() && info.Mode()&0o100 != 0
			s.Current = s.Installed && text == p.script()
		case path == s.Path:
			s.Foreign = exists
		}
		if exists && !ours && info.Mode().IsRegular() && info.Mode()&0o100 != 0 {
			s.Others = append(s.Others, path)
		}
	}
	return s, nil
}

// read returns a file's text; "" when there is none.
func read(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the hook: %w", err)
	}
	return string(text), nil
}

// replace writes a program in one step: libvirt may run it at any moment.
func replace(path, text string) error {
	// libvirt runs every executable file of the folder, and this one is none yet.
	tmp, err := os.CreateTemp(filepath.Dir(filepath.Dir(path)), ".headroom-hook-")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Sync(), tmp.Chmod(0o755), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(tmp.Name()))
	}
	return err
}

// script is the hook. The shell lets every operation but the fenced one pass by
// itself, so that a program that is missing or broken harms no running guest; where
// it is missing, only what headroom moves is refused.
func (p Place) script() string {
	return fmt.Sprintf(`#!/bin/sh
%s
# It lets a VM come in by migration only as headroom's agent says, and has no
# opinion on anything else. Remove it with: headroom hook remove
[ "$2 $3" = "migrate begin" ] || exit 0
headroom=%s
if [ ! -x "$headroom" ]; then
	if grep -q ' lease="[^"]'; then
		echo "headroom moves $1, and $headroom is gone: install it, or remove $0" >&2
		exit 1
	fi
	exit 0
fi
exec "$headroom" --socket %s hook run --by-hand=%s -- "$@"
`, marker, quote(p.Program), quote(p.Socket), p.ByHand)
}

// quote makes one word of a text for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
