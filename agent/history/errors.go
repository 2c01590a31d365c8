package history

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
)

// Errors that a caller decides upon. ErrDiskFull also matches syscall.ENOSPC.
var (
	// ErrDiskFull: the file system of the data directory is (nearly) full. Nothing
	// was written. The agent begins no move until a write succeeds again.
	ErrDiskFull error = diskFull{}
	// ErrLocked: another process has the directory open.
	ErrLocked = errors.New("another process uses this directory")
	// ErrClosed: the store or journal was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrCorrupt: a stored value failed its checksum or does not decode.
	ErrCorrupt = errors.New("stored value is corrupt")
	// ErrTooLarge: a name or value is larger than the store accepts.
	ErrTooLarge = errors.New("larger than the store accepts")
	// ErrTooMany: the store holds as many VMs as it accepts; Forget some.
	ErrTooMany = errors.New("the store holds too many VMs; forget some")
	// ErrBadSample: a sample has no number, time or signal that can be stored. A
	// missing sample is said by not appending one.
	ErrBadSample = errors.New("sample cannot be stored")
)

type diskFull struct{}

func (diskFull) Error() string {
	return "too little disk space is left for the history; free some, then writing resumes by itself"
}
func (diskFull) Unwrap() error { return syscall.ENOSPC }

// classify turns Badger's errors into this package's. Badger formats most causes
// into text and so loses the chain; the kernel's message is all that is left then.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		return fmt.Errorf("%w (%v)", ErrDiskFull, err)
	case errors.Is(err, badger.ErrDBClosed), errors.Is(err, badger.ErrBlockedWrites):
		return ErrClosed
	case errors.Is(err, badger.ErrTxnTooBig):
		return fmt.Errorf("%w (%v)", ErrTooLarge, err)
	}
	return err
}
