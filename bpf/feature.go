package bpf

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Feature is a signal beyond the Sample's, off until it is enabled.
type Feature string

// The features.
const (
	// FeatureBlockIO hooks the completion of each block request of the host:
	// some 200 to 350 ns each.
	FeatureBlockIO Feature = "block-io"
	// FeatureWaitTail hooks each context switch of the host: some 160 ns each.
	FeatureWaitTail Feature = "wait-tail"
	// FeatureExits hooks nothing, but looks through all open files of the host
	// in each pass: some 120 us with 140 processes.
	FeatureExits Feature = "kvm-exits"
)

// featureOrder is the order in which Features lists them.
var featureOrder = [...]Feature{FeatureBlockIO, FeatureWaitTail, FeatureExits}

// FeatureStatus tells whether a feature is on, and if not, why.
type FeatureStatus struct {
	Feature Feature
	On      bool
	Why     string
}

// Errors of reading a feature.
var (
	// ErrFeatureOff: the feature is not enabled, or failed. It wraps why.
	ErrFeatureOff = errors.New("feature is off")
	// ErrUnknownTarget: no target has the ID.
	ErrUnknownTarget = errors.New("unknown target")
	// ErrUnattributed: the kernel does not tell this VM's share from others'.
	ErrUnattributed = errors.New("cannot be told from others'")

	errNotEnabled = errors.New("not enabled")
)

// hook is a feature at work. Its methods are called by the Sampler's user.
type hook interface {
	// assign says whose counters to keep. Who stays keeps its own.
	assign(vms []*vm) error
	// pass is called in each pass.
	pass() error
	close() error
}

// feature is on while hook is not nil; why says why it is not.
type feature struct {
	hook hook
	why  error
}

func (f *feature) stop(why error) error {
	f.why = why
	if f.hook == nil {
		return nil
	}
	err := f.hook.close()
	f.hook = nil
	return err
}

// Enable turns a feature on. It fails with ErrNotPermitted, ErrNotSupported or
// the system's error, which Features then tells too. Its counters start at 0.
func (s *Sampler) Enable(name Feature) error {
	i := slices.Index(featureOrder[:], name)
	if i < 0 {
		return fmt.Errorf("enable %q: unknown feature", name)
	}
	if s.closed {
		return fmt.Errorf("enable %s: sampler is %w", name, ErrClosed)
	}
	f := &s.features[i]
	if f.hook != nil {
		return nil
	}
	h, err := openHook(name, s.opts)
	if err == nil {
		if err = h.assign(s.vms); err != nil {
			err = errors.Join(err, h.close())
		}
	}
	if err != nil {
		f.why = err
		return fmt.Errorf("enable %s: %w", name, err)
	}
	f.hook, f.why = h, nil
	return nil
}

func openHook(name Feature, opts Options) (hook, error) {
	switch name {
	case FeatureBlockIO:
		return openBlockIO(opts)
	case FeatureWaitTail:
		return openWaitTail(opts)
	default:
		return openExits(opts)
	}
}

// Disable turns a feature off and detaches its hook. One that is off stays so.
func (s *Sampler) Disable(name Feature) error {
	i := slices.Index(featureOrder[:], name)
	if i < 0 {
		return fmt.Errorf("disable %q: unknown feature", name)
	}
	return s.features[i].stop(errNotEnabled)
}

// Features lists every feature with its state.
func (s *Sampler) Features() []FeatureStatus {
	list := make([]FeatureStatus, len(featureOrder))
	for i, name := range featureOrder {
		list[i] = FeatureStatus{Feature: name, On: s.features[i].hook != nil}
		if err := s.features[i].why; err != nil {
			list[i].Why = err.Error()
		}
	}
	return list
}

// assignFeatures tells the features who the VMs are now. One that fails goes
// off and says why; the counters of Sample do not depend on it.
func (s *Sampler) assignFeatures() {
	for i := range s.features {
		f := &s.features[i]
		if f.hook == nil {
			continue
		}
		if err := f.hook.assign(s.vms); err != nil {
			_ = f.stop(err)
		}
	}
}

func (s *Sampler) passFeatures() {
	for i := range s.features {
		f := &s.features[i]
		if f.hook == nil {
			continue
		}
		if err := f.hook.pass(); err != nil {
			_ = f.stop(err)
		}
	}
}

// featureOf finds a feature's hook, of its own type, and a VM.
func featureOf[H hook](s *Sampler, name Feature, id string) (h H, v *vm, err error) {
	f := &s.features[slices.Index(featureOrder[:], name)]
	if f.hook == nil {
		return h, nil, fmt.Errorf("%s: %w: %w", name, ErrFeatureOff, f.why)
	}
	if v = s.byID[id]; v == nil {
		return h, nil, fmt.Errorf("%s: %w: %q", name, ErrUnknownTarget, id)
	}
	return f.hook.(H), v, nil
}

// Histogram counts durations: bucket i those of 2^i up to 2^(i+1) us; the first
// has all shorter ones too, the last all longer ones.
type Histogram [24]uint64

// Count is the number of durations.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile is the upper edge of the bucket that holds quantile q (0..1) of the
// durations: at most twice the true value. It is 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank, below, i := q*float64(total), h[0], 0
	for i+1 < len(h) && (below == 0 || float64(below) < rank) {
		i++
		below += h[i]
	}
	return time.Duration(2<<i) * time.Microsecond
}

// Sub is the durations counted since before was read.
func (h *Histogram) Sub(before *Histogram) (since Histogram) {
	for i := range h {
		since[i] = h[i] - before[i]
	}
	return since
}
