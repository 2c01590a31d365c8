package predict

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Forecast is what a Forecaster expects of one series, or Sum of several.
type Forecast struct {
	// Step is the length of one step.
	Step time.Duration
	// Steps holds the distribution of the mean demand over step 1, 2, ...
	Steps []Quantiles
	// Peak is the distribution of the highest step within the horizon. It is
	// calibrated on past peaks, not derived from Steps.
	Peak Quantiles
	// Method names the member whose forecast this is.
	Method string
	// Skill is 1 - loss(this)/loss(naive), trailing; NaN until known.
	Skill float64
	// Coverage is the trailing share of steps at or below their 0.95 quantile;
	// NaN until known. A calibrated forecast shows 0.95.
	Coverage float64
	// PeakCoverage is the same share for the peak; NaN until known.
	PeakCoverage float64
	// Observed and Missing count the samples since the first one.
	Observed, Missing int
	// Ready is false while the forecast must not be acted upon; Why says why.
	Ready bool
	Why   string
	// Members shows every method, also those that are switched off.
	Members []MemberStatus
}

// MemberStatus shows how one member has done lately.
type MemberStatus struct {
	Name string
	// Loss is the trailing mean pinball loss, in the unit of the series; NaN
	// until known.
	Loss float64
	// Ratio is that loss over naive's at the same moments; below 1 is better
	// than naive, NaN until known.
	Ratio float64
	// Weight is the member's share in the steps of the present forecast, on
	// average over the levels: at each level only members weigh that beat naive
	// there. The blend itself shows 0, the members that it is made of their shares.
	Weight float64
	// Off says that the member is not used; Why says why.
	Off bool
	Why string
}

// Horizon is the time that the forecast covers.
func (f Forecast) Horizon() time.Duration { return f.Step * time.Duration(len(f.Steps)) }

// ExceedProbability is the probability that the peak within the horizon lies
// above level. Between two quantiles it is interpolated; above the highest the
// tail falls exponentially, at the rate seen between 0.95 and 0.99; below the
// median the upper half is mirrored. NaN when the peak is unknown: no number
// may stand for «do not know».
func (f Forecast) ExceedProbability(level float64) float64 {
	if !f.Peak.Known() || math.IsNaN(level) {
		return math.NaN()
	}
	if level < 0 {
		return 1
	}
	if level < f.Peak[0] {
		return 1 - survival(f.Peak, 2*f.Peak[0]-level)
	}
	return survival(f.Peak, level)
}

// survival is P(X > level) for a level at or above the median.
func survival(q Quantiles, level float64) float64 {
	top := len(q) - 1
	if level >= q[top] {
		width := q[top] - q[top-1]
		if width <= 0 || level == q[top] {
			if level > q[top] || width <= 0 {
				return 0
			}
			return 1 - Levels[top]
		}
		return (1 - Levels[top]) * math.Exp(-(level-q[top])/width*math.Ln2*math.Log2(5))
	}
	for i := top; i > 0; i-- {
		if level >= q[i-1] {
			share := (level - q[i-1]) / (q[i] - q[i-1])
			return 1 - Levels[i-1] - share*(Levels[i]-Levels[i-1])
		}
	}
	return 1 - Levels[0]
}

// forecastJSON is the written form of a Forecast: snake_case, units in names,
// null for unknown numbers.
type forecastJSON struct {
	StepSeconds  float64      `json:"step_seconds"`
	Levels       []float64    `json:"levels"`
	Steps        []Quantiles  `json:"steps"`
	Peak         Quantiles    `json:"peak"`
	Method       string       `json:"method"`
	Skill        *float64     `json:"skill"`
	Coverage     *float64     `json:"coverage"`
	PeakCoverage *float64     `json:"peak_coverage"`
	Observed     int          `json:"observed_samples"`
	Missing      int          `json:"missing_samples"`
	Ready        bool         `json:"ready"`
	Why          string       `json:"why,omitempty"`
	Members      []memberJSON `json:"members,omitempty"`
}

type memberJSON struct {
	Name   string   `json:"name"`
	Loss   *float64 `json:"trailing_pinball_loss"`
	Ratio  *float64 `json:"loss_over_naive"`
	Weight float64  `json:"weight"`
	Off    bool     `json:"off"`
	Why    string   `json:"why,omitempty"`
}

// MarshalJSON writes the forecast with unknown numbers as null.
func (f Forecast) MarshalJSON() ([]byte, error) {
	out := forecastJSON{
		StepSeconds: f.Step.Seconds(), Levels: Levels[:], Steps: f.Steps, Peak: f.Peak, Method: f.Method,
		Skill: number(f.Skill), Coverage: number(f.Coverage), PeakCoverage: number(f.PeakCoverage),
		Observed: f.Observed, Missing: f.Missing, Ready: f.Ready, Why: f.Why,
	}
	for _, m := range f.Members {
		out.Members = append(out.Members, memberJSON{m.Name, number(m.Loss), number(m.Ratio), m.Weight, m.Off, m.Why})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote; a forecast made for other levels
// is refused, because its numbers would be misread.
func (f *Forecast) UnmarshalJSON(data []byte) error {
	var in forecastJSON
	in.Peak = unknown()
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("predict: forecast: %w", err)
	}
	if in.Levels != nil && (len(in.Levels) != len(Levels) || [5]float64(in.Levels) != Levels) {
		return fmt.Errorf("predict: forecast: levels %v, want %v", in.Levels, Levels)
	}
	if in.StepSeconds < 0 || in.StepSeconds > maxStep.Seconds() {
		return fmt.Errorf("predict: forecast: step of %g s is not within 0 and %v", in.StepSeconds, maxStep)
	}
	*f = Forecast{
		Step:  time.Duration(math.Round(in.StepSeconds * float64(time.Second))),
		Steps: in.Steps, Peak: in.Peak, Method: in.Method,
		Skill: orNaN(in.Skill), Coverage: orNaN(in.Coverage), PeakCoverage: orNaN(in.PeakCoverage),
		Observed: in.Observed, Missing: in.Missing, Ready: in.Ready, Why: in.Why,
	}
	for _, m := range in.Members {
		f.Members = append(f.Members, MemberStatus{m.Name, orNaN(m.Loss), orNaN(m.Ratio), m.Weight, m.Off, m.Why})
	}
	return nil
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
