package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"headroom/predict"
)

// hostTable is the forecast of the peak of a host's demand: the sum over VMs,
// against what a rule on the past of the sum, or on each VM's, gives.
type hostTable struct {
	set   string
	hosts int
	rows  []hostRow
}

type hostRow struct {
	name   string
	scores []predict.Score
}

const (
	hostVMs        = 8
	hostsGoogle    = 200 // VMs sampled for hosts
	hostsBitbrains = 64  // windows
	hostPast       = 24  // samples that the baselines look back on: two hours
	hostTrain      = 200
	hostResidue    = 96 // one-step errors from which correlation is estimated
)

// sumHosts puts the set's series together to hosts of hostVMs, without an
// order: whichever VMs follow each other in the sample.
func sumHosts(s *set, rng *rand.Rand) (hostTable, error) {
	t := hostTable{set: s.name}
	order := rng.Perm(len(s.series))
	for ; len(order) >= hostVMs; order = order[hostVMs:] {
		vms := make([][]float64, hostVMs)
		for i := range vms {
			vms[i] = s.series[order[i]]
		}
		if err := t.addHost(s, vms); err != nil {
			return t, err
		}
		t.hosts++
	}
	return t, nil
}

func (t *hostTable) addHost(s *set, vms [][]float64) error {
	fs := make([]*predict.Forecaster, len(vms))
	errors := make([][]float64, len(vms))
	for i := range fs {
		f, err := predict.New(config(s, false))
		if err != nil {
			return err
		}
		fs[i] = f
	}
	joint, err := predict.NewJoint(config(s, false), len(vms))
	if err != nil {
		return err
	}
	sum := make([]float64, len(vms[0]))
	scores := map[string]*predict.Score{}
	var names []string
	add := func(name string, steps []predict.Quantiles, peak predict.Quantiles, truth []float64) {
		if scores[name] == nil {
			scores[name] = &predict.Score{Name: name, Unit: change(sum[:s.train])}
			names = append(names, name)
		}
		scores[name].Add(steps, peak, truth)
	}
	for _, x := range vms {
		for t, v := range x {
			sum[t] += v
		}
	}
	for now := range sum[:len(sum)-horizon] {
		parts, values := make([]predict.Forecast, len(fs)), make([]float64, len(fs))
		for i, f := range fs {
			if fc := f.Forecast(); len(fc.Steps) > 0 {
				errors[i] = append(errors[i], vms[i][now]-fc.Steps[0][0])
			}
			f.Observe(vms[i][now])
			parts[i], values[i] = f.Forecast(), vms[i][now]
		}
		alone := predict.Sum(parts, nil)
		calibrated := joint.Observe(values, alone)
		if now+1 < s.train || (now+1-s.train)%s.every != 0 {
			continue
		}
		truth := sum[now+1 : now+1+horizon]
		host := predict.Sum(parts, correlation(errors))
		add("sum of forecasts, residual correlation", host.Steps, host.Peak, truth)
		add("sum of forecasts, independent", alone.Steps, alone.Peak, truth)
		add("sum of forecasts, calibrated on the sum", calibrated.Steps, calibrated.Peak, truth)
		for name, level := range baselines(vms, sum, now) {
			add(name, flat(level), flat(level)[0], truth)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		i := slices.IndexFunc(t.rows, func(r hostRow) bool { return r.name == n })
		if i < 0 {
			i = len(t.rows)
			t.rows = append(t.rows, hostRow{name: n})
		}
		t.rows[i].scores = append(t.rows[i].scores, *scores[n])
	}
	return nil
}

// correlation of the one-step errors of the last samples.
func correlation(errors [][]float64) func(i, j int) float64 {
	return func(i, j int) float64 {
		n := min(len(errors[i]), len(errors[j]), hostResidue)
		if n < hostResidue/2 {
			return 0
		}
		a, b := errors[i][len(errors[i])-n:], errors[j][len(errors[j])-n:]
		ma, sa := moments(a)
		mb, sb := moments(b)
		if sa == 0 || sb == 0 {
			return 0
		}
		var sum float64
		for k := range a {
			sum += (a[k] - ma) * (b[k] - mb) / float64(n)
		}
		return sum / sa / sb
	}
}

// baselines are N-sigma on the sum (Bashir et al., EuroSys 2021), for several N
// so that the best of them is beaten, and the sum of each VM's percentile, as
// Resource Central adds them up.
func baselines(vms [][]float64, sum []float64, now int) map[string]float64 {
	out := map[string]float64{}
	mean, sd := moments(sum[now+1-hostPast : now+1])
	for _, n := range []float64{1.645, 2, 3, 5} {
		out[fmt.Sprintf("N-sigma, N = %.4g", n)] = mean + n*sd
	}
	for _, p := range []float64{0.9, 0.95, 0.99} {
		var total float64
		for _, x := range vms {
			past := slices.Clone(x[now+1-hostPast : now+1])
			slices.Sort(past)
			total += past[min(len(past)-1, int(math.Ceil(p*float64(len(past))))-1)]
		}
		out[fmt.Sprintf("sum of percentiles, P%.0f", 100*p)] = total
	}
	return out
}

// flat is a forecast that says the same for all steps.
func flat(level float64) []predict.Quantiles {
	out := make([]predict.Quantiles, horizon)
	for h := range out {
		for l := range out[h] {
			out[h][l] = level
		}
	}
	return out
}

func (t *hostTable) print(out io.Writer) {
	fmt.Fprintf(out, "\n### Peak of the next hour on a host: %s, %d hosts of %d VMs\n\n", t.set, t.hosts, hostVMs)
	fmt.Fprintln(out, "| method | peak pinball 0.95 | peak at or below | step pinball 0.95 | step at or below |")
	fmt.Fprintln(out, "|---|---|---|---|---|")
	for _, r := range t.rows {
		m := summarise(result{name: r.name, scores: r.scores})
		fmt.Fprintf(out, "| %s | %.3f | %.3f | %.3f | %.3f |\n", r.name, m.peakPin, m.peakHeld, m.pin95, m.q95)
	}
}
