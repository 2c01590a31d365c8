package predict

import (
	"encoding/json"
	"fmt"
	"math"
)

// Levels are the probabilities of the five quantiles of every forecast.
var Levels = [5]float64{0.5, 0.75, 0.9, 0.95, 0.99}

// gaussian holds the standard normal quantile at each of Levels.
var gaussian = Quantiles{0, 0.6744897501960817, 1.2815515655446004, 1.6448536269514722, 2.3263478740408408}

// Quantiles are values at Levels, in the unit of the observed series. In a
// Forecast they never decrease with the level and are never negative.
type Quantiles [5]float64

// unknown is a distribution about which nothing is known.
func unknown() Quantiles {
	nan := math.NaN()
	return Quantiles{nan, nan, nan, nan, nan}
}

// Known says whether the quantiles are numbers (false: not yet known).
func (q Quantiles) Known() bool {
	for _, v := range q {
		if math.IsNaN(v) {
			return false
		}
	}
	return true
}

// MarshalJSON writes an array of five numbers; an unknown one becomes null,
// because JSON has no NaN.
func (q Quantiles) MarshalJSON() ([]byte, error) {
	var out [5]*float64
	for i := range q {
		out[i] = number(q[i])
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote. Quantiles that are negative or
// that decrease are refused, since every reader relies on their order.
func (q *Quantiles) UnmarshalJSON(data []byte) error {
	var in []*float64
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("predict: quantiles: %w", err)
	}
	if len(in) != len(q) {
		return fmt.Errorf("predict: quantiles: %d values, want %d", len(in), len(q))
	}
	last := 0.0
	for i, v := range in {
		if v == nil {
			q[i] = math.NaN()
			continue
		}
		if *v < last {
			return fmt.Errorf("predict: quantiles: value %g at level %g is below %g", *v, Levels[i], last)
		}
		q[i], last = *v, *v
	}
	return nil
}

// number is nil for what JSON cannot say.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// tidy makes q a distribution of demand: finite, not negative, not decreasing.
func (q *Quantiles) tidy() {
	last := 0.0
	for i, v := range q {
		if math.IsNaN(v) || v < last {
			v = last
		}
		if v > limit {
			v = limit
		}
		q[i], last = v, v
	}
}

// pinball is the mean quantile loss of q when y happened: the proper score of a
// set of quantiles, in the unit of y; lower is better.
func pinball(q *Quantiles, y float64) float64 {
	var sum float64
	for i, v := range q {
		if y >= v {
			sum += Levels[i] * (y - v)
		} else {
			sum += (1 - Levels[i]) * (v - y)
		}
	}
	return sum / float64(len(q))
}

// upper raises q to r wherever r is higher.
func (q *Quantiles) upper(r *Quantiles) {
	for i := range q {
		q[i] = max(q[i], r[i])
	}
}
