package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Down removes every trace of the lab. See the function Down.
func (l *Lab) Down(ctx context.Context) error { return Down(ctx, l.state.Name) }

// Down removes a lab by its name: its processes (those in its cgroup), its
// namespaces, links, mounts, cgroups and files. It works on what is left after
// any crash, and on nothing; only the image cache stays.
func Down(ctx context.Context, name string) error {
	if name == "" {
		name = DefaultName
	}
	if err := checkName(name); err != nil {
		return err
	}
	cg, err := findHierarchy()
	if err != nil {
		return err
	}
	limit := 20 * time.Second
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	var errs []error
	if err := cg.remove(limit, name); err != nil {
		errs = append(errs, err)
	}
	run, data := filepath.Join(runRoot, name), filepath.Join(dataRoot, name)
	if err := detachUnder(run); err != nil {
		// The folder still holds pins: removing it would lose them.
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, os.RemoveAll(run), os.RemoveAll(data))
	// The labs' parents go with the last lab.
	for _, dir := range []string{cg.path(), runRoot, dataRoot} {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
