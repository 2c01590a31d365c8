package simulate

import (
	"fmt"
	"math"
	"time"

	"headroom/predict"
)

// ahead is how many samples a VM's forecasters take in one go. What a VM asks for
// does not depend on where it runs, so nothing keeps its forecasts from being made
// before their time, and its models, too many for any cache, come from memory once for
// all of them. No agent sees a forecast before the sample that it follows from.
const ahead = 8

// forecasters forecast what all VMs ask for, from the samples up to the last one.
type forecasters struct {
	cpu     []*predict.Forecaster
	traffic [flows][]*predict.Forecaster // nil where no host has a limit
	made    [][ahead]forecasts           // of each VM
	samples int
}

// forecasts are what is expected of one VM after a sample.
type forecasts struct{ cpu, disk, network predict.Forecast }

func newForecasters(st *stage) (*forecasters, error) {
	c := predict.Config{Step: time.Duration(st.setup.Step * float64(time.Second)), Horizon: horizon}
	o := &forecasters{made: make([][ahead]forecasts, len(st.guests))}
	kinds := []*[]*predict.Forecaster{&o.cpu}
	if st.traffic {
		for k := range o.traffic {
			kinds = append(kinds, &o.traffic[k])
		}
	}
	for _, all := range kinds {
		for range st.guests {
			f, err := predict.New(c)
			if err != nil {
				return nil, fmt.Errorf("forecaster: %w", err)
			}
			*all = append(*all, f)
		}
	}
	return o, nil
}

// observe takes the sample of the present step. at then tells what to expect of each
// VM; each calls its argument for all of them.
func (o *forecasters) observe(st *stage, each func(n int, do func(v int))) {
	if o.samples%ahead == 0 {
		each(len(st.guests), func(v int) {
			for k := range ahead {
				if t := st.now + float64(k)*st.setup.Step; int(t/st.setup.Step) < st.setup.Steps {
					o.made[v][k] = o.look(st, v, t)
				}
			}
		})
	}
	o.samples++
}

// at returns the forecasts of VM v as of the last sample.
func (o *forecasters) at(v int) *forecasts { return &o.made[v][(o.samples-1)%ahead] }

// look feeds VM v's forecasters with what it asks for at time t. Nothing is known of
// any of it while the VM is off.
func (o *forecasters) look(st *stage, v int, t float64) (out forecasts) {
	g := &st.guests[v]
	on := 1.0
	if st.off(v, t) {
		on = math.NaN()
	}
	out.cpu = next(o.cpu[v], on*st.demand(g, t)*g.MIPS/st.setup.CoreMIPS)
	if st.traffic {
		out.disk = next(o.traffic[0][v], on*1e6*st.trafficAt(g, 0, t))
		out.network = next(o.traffic[1][v], on*1e6*st.trafficAt(g, 1, t))
	}
	return out
}

func next(f *predict.Forecaster, x float64) predict.Forecast {
	f.Observe(x)
	out := f.Forecast()
	out.Members = nil
	return out
}

// distort makes a forecast wrong by a factor.
func distort(f *predict.Forecast, by float64) {
	for i := range f.Peak {
		f.Peak[i] *= by
	}
	for h := range f.Steps {
		for i := range f.Steps[h] {
			f.Steps[h][i] *= by
		}
	}
}
