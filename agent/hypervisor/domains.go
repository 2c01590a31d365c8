package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"libvirt.org/go/libvirt"
)

// maxDomains bounds what one look takes in.
const maxDomains = 4096

// listed is one domain as the list of all shows it, without asking for more.
type listed struct{ id, name string }

// Domains lists the host's domains. A domain that hangs or vanishes meanwhile
// does not delay the others: a hung one is listed by its name, as not migratable.
func (d *Libvirt) Domains(ctx context.Context) ([]Domain, error) {
	all, err := call(ctx, d, d.looks, "list", func(c *libvirt.Connect) ([]listed, error) {
		list, err := c.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		var out []listed
		for i := range list {
			id, idErr := list[i].GetUUIDString()
			name, nameErr := list[i].GetName()
			if idErr == nil && nameErr == nil && len(out) < maxDomains {
				out = append(out, listed{id, name})
			}
			_ = list[i].Free() // fails only for a domain that is not one
		}
		return out, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	found := make([]*Domain, len(all))
	work := make(chan int)
	var wg sync.WaitGroup
	for range maxLooks - 1 { // one place stays for Memory and HostInfo
		wg.Go(func() {
			for i := range work {
				found[i] = d.look(ctx, all[i])
			}
		})
	}
	for i := range all {
		work <- i
	}
	close(work)
	wg.Wait()
	out := make([]Domain, 0, len(found))
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out, nil
}

// look reads one domain; nil when it is gone.
func (d *Libvirt) look(ctx context.Context, x listed) *Domain {
	dom, ok, err := d.describe(ctx, d.looks, x.id)
	switch {
	case err != nil:
		return &Domain{ID: x.id, Name: x.name, State: NoState, Why: "libvirt does not describe it: " + err.Error()}
	case !ok:
		return nil
	}
	return &dom
}

var states = map[libvirt.DomainState]State{
	libvirt.DOMAIN_NOSTATE: NoState, libvirt.DOMAIN_RUNNING: Running, libvirt.DOMAIN_BLOCKED: Blocked,
	libvirt.DOMAIN_PAUSED: Paused, libvirt.DOMAIN_SHUTDOWN: ShutDown, libvirt.DOMAIN_SHUTOFF: ShutOff,
	libvirt.DOMAIN_CRASHED: Crashed, libvirt.DOMAIN_PMSUSPENDED: PMSuspended,
}

var pausedReasons = map[libvirt.DomainPausedReason]string{
	libvirt.DOMAIN_PAUSED_USER: "user", libvirt.DOMAIN_PAUSED_MIGRATION: reasonMigration, libvirt.DOMAIN_PAUSED_SAVE: "save",
	libvirt.DOMAIN_PAUSED_DUMP: "dump", libvirt.DOMAIN_PAUSED_IOERROR: "I/O error", libvirt.DOMAIN_PAUSED_WATCHDOG: "watchdog",
	libvirt.DOMAIN_PAUSED_SNAPSHOT: "snapshot", libvirt.DOMAIN_PAUSED_STARTING_UP: reasonStarting,
	libvirt.DOMAIN_PAUSED_POSTCOPY: "post-copy", libvirt.DOMAIN_PAUSED_POSTCOPY_FAILED: "post-copy failed",
}

const (
	reasonMigration = "migration"
	reasonStarting  = "starting up"
)

// Lookup reads one domain; ok is false when it is not here.
func (d *Libvirt) Lookup(ctx context.Context, id string) (dom Domain, ok bool, err error) {
	return d.describe(ctx, d.acts, id)
}

func (d *Libvirt) describe(ctx context.Context, p *pool, id string) (dom Domain, ok bool, err error) {
	dom, err = onDomain(ctx, d, p, id, "look up", d.read)
	if errors.Is(err, ErrNoSuchDomain) {
		return Domain{}, false, nil
	}
	if err != nil {
		return Domain{}, false, err
	}
	switch {
	case dom.State.Live():
		dom.PID = d.pids.find(dom.Name, dom.ID)
		d.judgeLock(&dom)
	case dom.Reason == "" && dom.Metadata.Lease != "" && handedOver(d.o.LogDir, dom.Name):
		dom.Reason = ReasonMigrated
	}
	if dom.CPUModel == hostModel {
		dom.CPUModel = "unknown" // no host has it: better unmovable than moved wrongly
		if info, err := d.HostInfo(ctx); err == nil {
			dom.CPUModel = info.CPUModel
		}
	}
	return dom, true, nil
}

// read makes all the calls about one domain in one go.
func (d *Libvirt) read(x *libvirt.Domain) (Domain, error) {
	text, err := x.GetXMLDesc(0)
	if err != nil {
		return Domain{}, err
	}
	dom, err := parseDomain(text)
	if err != nil {
		return Domain{}, err
	}
	if err := dom.readState(x); err != nil {
		return Domain{}, err
	}
	d.judgeDisks(x, &dom)
	if !dom.State.Live() {
		return dom, nil
	}
	return dom, dom.readJob(x)
}

func (dom *Domain) readState(x *libvirt.Domain) error {
	state, reason, err := x.GetState()
	if err != nil {
		return err
	}
	dom.State = states[state]
	switch {
	case state == libvirt.DOMAIN_PAUSED:
		dom.Reason = pausedReasons[libvirt.DomainPausedReason(reason)]
	case state == libvirt.DOMAIN_SHUTOFF && libvirt.DomainShutoffReason(reason) == libvirt.DOMAIN_SHUTOFF_MIGRATED:
		dom.Reason = ReasonMigrated
	}
	if dom.Persistent, err = x.IsPersistent(); err != nil || !dom.Persistent {
		return err
	}
	if dom.Autostart, err = x.GetAutostart(); err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return err
	}
	return nil
}

// readJob asks for the domain's job. That question waits for whoever holds the
// domain, so it is not put to one whose QEMU is busy with a command.
func (dom *Domain) readJob(x *libvirt.Domain) error {
	control, err := x.GetControlInfo(0)
	switch {
	case isCode(err, libvirt.ERR_NO_SUPPORT): // test:/// has no monitor to be busy
	case err != nil:
		return err
	case control.State == libvirt.DOMAIN_CONTROL_ERROR:
		dom.fixed("QEMU's monitor does not answer")
		return nil
	case control.State != libvirt.DOMAIN_CONTROL_OK:
		dom.busy("monitor command")
		dom.Incoming = dom.State == Paused && (dom.Reason == reasonMigration || dom.Reason == reasonStarting)
		return nil
	}
	p, err := progress(x)
	if err != nil {
		return err
	}
	dom.Incoming = p.Kind == incoming ||
		dom.State == Paused && (dom.Reason == reasonMigration || dom.Reason == reasonStarting) && p.Kind != outgoing
	if p.Active && p.Kind != outgoing {
		dom.busy(p.Kind)
	}
	return nil
}

// busy notes what keeps the domain busy; the first word stays.
func (dom *Domain) busy(with string) {
	if dom.Job == "" {
		dom.Job = with
	}
}
