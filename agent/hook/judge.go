package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"headroom/agent/api"
	"headroom/agent/hypervisor"
)

// Limit bounds the whole answer: libvirt at the destination waits for it, and the
// source's libvirt for that.
const Limit = 2 * time.Second

// maxDescription bounds what is read of a VM's description.
const maxDescription = 8 << 20

// ErrRefused means that the VM must not come in.
var ErrRefused = errors.New("migration refused")

// Agent is the local agent, as far as the hook asks it.
type Agent interface {
	Incoming(ctx context.Context, r api.IncomingRequest) (api.IncomingReply, error)
}

// ByHand says what becomes of a VM that carries no lease.
type ByHand string

// The two policies.
const (
	ByHandAllow  ByHand = "allow"
	ByHandRefuse ByHand = "refuse"
)

// fenced reports whether libvirt asks for a leave that may be denied.
func fenced(args []string) bool {
	return len(args) >= 3 && args[1] == "migrate" && args[2] == "begin"
}

// Judge answers one call of libvirt's: args are the VM's name, the operation, the
// sub-operation and an extra word; description is the VM's XML. It returns nil when
// libvirt may go on, or an error that wraps ErrRefused and says what to do. Only
// «migrate begin» is ever refused:
//
//	carries        agent answers   agent dead
//	a lease        as it says      refused
//	a stamp that
//	was taken back as it says      refused
//	nothing        as it says      by the policy byHand
//
// What cannot be read within the limit carries something unknown, and is refused.
func Judge(ctx context.Context, args []string, description io.Reader, agent Agent, byHand ByHand) error {
	if !fenced(args) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	text, err := readAll(ctx, description)
	if err != nil {
		return fmt.Errorf("%w: the description of %s cannot be read: %w", ErrRefused, args[0], err)
	}
	vm, err := hypervisor.ParseIncoming(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	m := vm.Metadata
	reply, err := agent.Incoming(ctx, api.IncomingRequest{VM: vm.ID, Name: vm.Name, Attempt: m.Attempt, Lease: m.Lease, From: m.From, To: m.To})
	switch {
	case err == nil && reply.Allow:
		return nil
	case err == nil:
		return fmt.Errorf("%w by headroom's agent: %s", ErrRefused, reply.Reason)
	case m.Lease != "":
		return fmt.Errorf("%w: headroom moves %s, and its agent on this host does not confirm the lease: %w", ErrRefused, vm.Name, err)
	case m.Withdrawn():
		return fmt.Errorf("%w: headroom gave up attempt %d to move %s, and its agent on this host does not say where to: %w; "+
			"start the agent, or take the stamp away with `virsh metadata %s %s --remove --live --config` at the source",
			ErrRefused, m.Attempt, vm.Name, err, vm.Name, hypervisor.MetadataURI)
	case byHand == ByHandRefuse:
		return fmt.Errorf("%w: %s carries no lease, and handover.by_hand is \"refuse\": move it with `headroom migrate %s`", ErrRefused, vm.Name, vm.Name)
	}
	return nil
}

// readAll reads the description and gives up when ctx ends; the reader is left
// behind then, and ends with the program.
func readAll(ctx context.Context, r io.Reader) (string, error) {
	type read struct {
		text []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(r, maxDescription+1))
		done <- read{text, err}
	}()
	select {
	case got := <-done:
		if got.err == nil && len(got.text) > maxDescription {
			return "", fmt.Errorf("it is longer than %d bytes", maxDescription)
		}
		return string(got.text), got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
