package hypervisor

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirt"
)

// on runs fn on a connection of the pool that nobody else uses meanwhile.
func on[T any](p *pool, fn func(*libvirt.Connect) (T, error)) (T, error) {
	c, era, err := p.take()
	if err != nil {
		var zero T
		return zero, err
	}
	v, err := fn(c)
	p.give(c, era, broken(err))
	return v, err
}

// call runs fn on a connection, within the driver's time-out.
func call[T any](ctx context.Context, d *Libvirt, p *pool, subject string, fn func(*libvirt.Connect) (T, error)) (T, error) {
	if err := d.link.state(); err != nil {
		var zero T
		return zero, err
	}
	return run(ctx, p, job[T]{subject: subject, limit: d.o.Timeout, fn: func() (T, error) { return on(p, fn) }})
}

// onDomain runs fn on one domain.
func onDomain[T any](ctx context.Context, d *Libvirt, p *pool, id, what string, fn func(*libvirt.Domain) (T, error)) (T, error) {
	v, err := call(ctx, d, p, what+" "+id, func(c *libvirt.Connect) (T, error) {
		dom, err := c.LookupDomainByUUIDString(id)
		if err != nil {
			var zero T
			return zero, err
		}
		defer func() { _ = dom.Free() }() // fails only for a domain that is not one
		return fn(dom)
	})
	if err != nil {
		return v, fmt.Errorf("%s domain %s: %w", what, id, err)
	}
	return v, nil
}

// do is onDomain for acts without a value.
func (d *Libvirt) do(ctx context.Context, id, what string, fn func(*libvirt.Domain) error) error {
	_, err := onDomain(ctx, d, d.acts, id, what, func(dom *libvirt.Domain) (struct{}, error) { return struct{}{}, fn(dom) })
	return err
}
