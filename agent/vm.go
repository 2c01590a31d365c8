package agent

import (
	"errors"
	"fmt"
	"math"
	"time"

	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/predict"
)

// vm is one domain as the loop knows it.
type vm struct {
	dom     hypervisor.Domain
	memory  hypervisor.MemoryStats
	hasMem  bool
	sample  bpf.Sample
	sampled bool
	lost    int // windows without a sample before the last one
	links   bpf.LinkStats
	linksAt time.Duration
	linked  bool
	dirty   float64 // bytes/s as last measured; NaN when never
	// extra is what the features told at the latest pass and before the one
	// before; noBlock is why there is no block I/O of the VM.
	extra, before extra
	noBlock       string
	// cgroup is the VM's own, empty if it has none, as found for cgroupPID.
	cgroup    string
	cgroupPID int

	now    rates
	demand float64 // cores; NaN when not known
	why    string  // why not measured
	wait   float64 // core-seconds waited since the agent saw the VM

	// bootUntil is when a VM that has just started counts as booted; its boot
	// is not demand that comes again.
	bootUntil time.Time
	// moving says that the VM is on its way out; restUntil is when one that has
	// arrived has caught up with what it missed. What is measured meanwhile is
	// the migration's doing, not the VM's demand.
	moving    bool
	restUntil time.Time

	// models and forecasts by signal; a nil model is of one that is not forecast.
	models    [signals]*predict.Forecaster
	forecasts [signals]predict.Forecast
	hot       []predict.HotSpot // of the CPU demand
}

const (
	// maxGap is how long a forecast stays valid without a sample: a short
	// migration fits into it.
	maxGap = 20 * time.Second
	// restAfterMove is how long a VM that has arrived may catch up.
	restAfterMove = 3 * time.Second
)

// shape is the configuration of every VM's forecaster.
func (a *Agent) shape() predict.Config {
	f := a.cfg.Forecast
	window := a.cfg.Sampling.Window.Duration
	perStep := max(1, int(f.Step.Duration/window))
	return predict.Config{
		Sample: window, Step: window * time.Duration(perStep), Horizon: f.Horizon, Warmup: f.Warmup,
		MaxGap: max(perStep, int(maxGap/window)),
	}
}

// newVM takes up a domain, with what was learned of it before: by this agent
// before its restart, or by the host that the VM came from.
func (l *loop) newVM(dom hypervisor.Domain) (*vm, error) {
	v := &vm{dom: dom, now: unknownRates(), demand: math.NaN(), dirty: math.NaN(), why: "no sample yet"}
	var errs []error
	for _, s := range forecastSignals(l.a.cfg.Planner) {
		m, known, err := l.model(dom, s)
		if m == nil {
			return nil, err
		}
		v.models[s] = m
		errs = append(errs, err)
		// A VM that was here when the agent came has booted long ago, as far as the
		// agent can know.
		if s == signalCPU && !known && l.watching {
			v.bootUntil = time.Now().Add(l.a.cfg.Forecast.Settle.Duration)
		}
	}
	return v, errors.Join(errs...)
}

// model makes the forecaster of one signal of a VM, and says whether anything is
// known of the VM from before. An error with a model says why it learns anew.
func (l *loop) model(dom hypervisor.Domain, s signal) (m *predict.Forecaster, known bool, err error) {
	if m, err = predict.New(l.a.shape()); err != nil {
		return nil, false, fmt.Errorf("forecaster: %w", err)
	}
	blob, known, err := l.a.o.Store.Blob(modelBlob(dom.ID, s))
	if err != nil || !known {
		return m, err != nil, err
	}
	if err := m.UnmarshalBinary(blob); err != nil && !errors.Is(err, predict.ErrStateVersion) {
		return m, true, fmt.Errorf("learned model of %s (%s) is not readable and is learned anew: %w", dom.Name, s, err)
	} else if err == nil {
		return m, true, nil
	}
	m, err = predict.New(l.a.shape())
	return m, true, err
}

func modelBlob(vm string, s signal) string { return "model/" + s.String() + "/" + vm }

// observe takes one sample of the VM; steps is how many windows passed since
// the last one. learn follows, once all VMs are observed.
func (v *vm) observe(s *bpf.Sample, steps int) {
	r, ok := between(&v.sample, s)
	fresh := !v.sampled
	v.sample, v.sampled, v.lost = *s, true, min(steps-1, maxLost)
	if fresh {
		v.lost = 0 // what passed before it was here is not missing
	}
	switch {
	case !s.Valid:
		v.now, v.why = unknownRates(), s.Reason
	case v.dom.State != hypervisor.Running:
		v.now, v.why = unknownRates(), "not running: "+string(v.dom.State)
	case fresh:
		v.now, v.why = unknownRates(), "one sample so far"
	case !ok && !s.Has(bpf.SignalWait):
		v.now, v.why = r, "run-queue wait is not known, and demand without it is censored"
	case !ok:
		v.now, v.why = unknownRates(), "the VM's process is a new one"
	default:
		v.now, v.why = r, ""
		v.wait += r.waited * float64(steps)
	}
}

// learn feeds the forecasters with the demand of the last window, on a host that
// was used up to hostFull (0..1). Lost windows are missing, not zero, and so is
// what was measured during a boot or a migration.
func (v *vm) learn(now time.Time, hostFull float64) {
	v.demand = v.now.demand(v.dom.VCPUs, hostFull)
	if now.Before(v.bootUntil) {
		v.why = "it has just started: its boot is not learned from"
		return
	}
	for range v.lost {
		v.miss()
	}
	if v.moving || v.why != "" || now.Before(v.restUntil) {
		v.miss()
		return
	}
	for s, m := range v.models {
		if m != nil {
			m.Observe(v.asks(signal(s)))
		}
	}
}

// maxLost bounds the missing samples that one long stall is written as.
const maxLost = 600

// tap adds the network rates of the VM's taps, summed.
func (v *vm) tap(links Links, at time.Duration) {
	var sum bpf.LinkStats
	for _, name := range v.dom.Taps {
		s, ok := links.Stats(name)
		if !ok {
			v.linked = false
			return
		}
		sum.Add(s)
	}
	if v.linked && len(v.dom.Taps) > 0 {
		v.now.addLinks(v.links, sum, at-v.linksAt)
	}
	v.links, v.linksAt, v.linked = sum, at, true
}
