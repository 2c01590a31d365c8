package hypervisor

import (
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
)

// Errors on which a caller decides.
var (
	// ErrLibvirtMissing: the library is not on this host.
	ErrLibvirtMissing = errors.New("libvirt is not installed: install libvirt0 (Debian) or libvirt-libs (Fedora)")
	// ErrNotConnected: libvirtd does not answer now; the driver reconnects.
	ErrNotConnected = errors.New("libvirtd is not connected")
	// ErrNoSuchDomain: the domain is not here.
	ErrNoSuchDomain = errors.New("no such domain")
	// ErrTimeout: the call was given up; it may still take effect.
	ErrTimeout = errors.New("libvirt did not answer in time")
	// ErrUnknownOutcome: a migration's end was not seen. Ask both hosts.
	ErrUnknownOutcome = errors.New("the outcome of the migration is not known")
	// ErrJobActive: the domain is busy with another job.
	ErrJobActive = errors.New("another job is active on the domain")
	// ErrOverloaded: too many calls hang in libvirt.
	ErrOverloaded = errors.New("too many libvirt calls are under way")
)

func isCode(err error, codes ...libvirt.ErrorNumber) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// typed gives libvirt's errors the kinds that callers decide on.
func typed(err error) error {
	switch {
	case err == nil:
		return nil
	case isCode(err, libvirt.ERR_NO_DOMAIN):
		return fmt.Errorf("%w: %w", ErrNoSuchDomain, err)
	case jobActive(err):
		return fmt.Errorf("%w: %w", ErrJobActive, err)
	case broken(err):
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return err
}

// jobActive says that the domain was busy. libvirt waits 30 s for a job's end
// (operation timeout); a second migration it refuses at once, as an invalid
// operation that only the message tells from others.
func jobActive(err error) bool {
	if isCode(err, libvirt.ERR_OPERATION_TIMEOUT, libvirt.ERR_RESOURCE_BUSY) {
		return true
	}
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == libvirt.ERR_OPERATION_INVALID && strings.Contains(e.Message, "another migration job")
}

// broken says that a connection failed and not the operation.
func broken(err error) bool {
	if isCode(err, libvirt.ERR_RPC, libvirt.ERR_NO_CONNECT, libvirt.ERR_INVALID_CONN) {
		return true
	}
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	// A socket's own failure carries no code of its own.
	transport := e.Domain == libvirt.FROM_RPC || e.Domain == libvirt.FROM_REMOTE || e.Domain == libvirt.FROM_STREAMS
	return transport && (e.Code == libvirt.ERR_SYSTEM_ERROR || e.Code == libvirt.ERR_INTERNAL_ERROR)
}

// unreached says that a migration ended before it began: our libvirtd did not
// reach the destination's. The message alone tells it from a link that broke on
// the way.
func unreached(err error) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Domain == libvirt.FROM_RPC && strings.HasPrefix(e.Message, "unable to connect to server")
}
