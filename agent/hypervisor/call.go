package hypervisor

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
)

// answer is what a call came back with.
type answer[T any] struct {
	v   T
	err error
}

// within runs fn on a goroutine of its own and gives it up after the driver's
// time-out. What was given up keeps its place until it returns.
func within[T any](ctx context.Context, d *Libvirt, what string, fn func() (T, error)) (T, error) {
	var zero T
	select {
	case d.calls <- struct{}{}:
	default:
		return zero, fmt.Errorf("%s: %w (%d)", what, ErrOverloaded, maxCalls)
	}
	ch := make(chan answer[T], 1)
	go func() {
		defer func() { <-d.calls }()
		v, err := fn()
		ch <- answer[T]{v, err}
	}()
	timer := time.NewTimer(d.o.Timeout)
	defer timer.Stop()
	select {
	case a := <-ch:
		return a.v, typed(a.err)
	case <-timer.C:
		return zero, fmt.Errorf("%s: %w (%v)", what, ErrTimeout, d.o.Timeout)
	case <-ctx.Done():
		return zero, fmt.Errorf("%s: %w", what, ctx.Err())
	}
}

// call runs fn on the connection.
func call[T any](ctx context.Context, d *Libvirt, fn func(*libvirt.Connect) (T, error)) (T, error) {
	d.mu.Lock()
	conn, err := d.conn, d.err
	d.mu.Unlock()
	if conn == nil {
		var zero T
		return zero, err
	}
	return within(ctx, d, "libvirt", func() (T, error) { return fn(conn) })
}

// onDomain runs fn on one domain.
func onDomain[T any](ctx context.Context, d *Libvirt, id string, fn func(*libvirt.Domain) (T, error)) (T, error) {
	return call(ctx, d, func(c *libvirt.Connect) (T, error) {
		dom, err := c.LookupDomainByUUIDString(id)
		if err != nil {
			var zero T
			return zero, err
		}
		defer func() { _ = dom.Free() }() // fails only for a domain that is not one
		return fn(dom)
	})
}

// do is onDomain for calls without a value.
func (d *Libvirt) do(ctx context.Context, id, what string, fn func(*libvirt.Domain) error) error {
	_, err := onDomain(ctx, d, id, func(dom *libvirt.Domain) (struct{}, error) { return struct{}{}, fn(dom) })
	if err != nil {
		return fmt.Errorf("%s domain %s: %w", what, id, err)
	}
	return nil
}
