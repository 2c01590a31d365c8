package predict

import (
	"fmt"
	"time"
)

const (
	defaultHorizon = 12
	defaultWarmup  = 20
	maxHorizon     = 288            // steps
	maxPerStep     = 120            // samples in a step
	maxSpan        = 4096           // samples in the horizon
	maxStep        = 24 * time.Hour // longest step
	maxSeason      = 32 * 24 * time.Hour
	limit          = 1e30 // larger values are broken readings
)

// Config says what a Forecaster is fed and what it must forecast.
type Config struct {
	// Sample is the time between two calls of Observe. Default: Step.
	Sample time.Duration
	// Step is the length of a forecast step, a whole multiple of Sample, at
	// most 120 times.
	Step time.Duration
	// Horizon is the number of steps forecast: 1..288, default 12.
	Horizon int
	// Warmup is the number of samples to be seen before a forecast is Ready:
	// 3..10000, default 20.
	Warmup int
	// MaxGap is how many samples in a row may be missing before the forecast is
	// not Ready. Default: one step, at least 5 samples.
	MaxGap int
	// Season switches on the seasonal member: the length of the season, usually
	// a day; a multiple of Sample, at most 32 days. 0 is off.
	Season time.Duration
	// LSTM switches on the recurrent network. It costs about as much as all
	// other members together; see TestTraces for what it gains.
	LSTM bool
	// Level is the demand above which HotSpots reports «exceed»; 0 is off. It
	// is in the unit of the series.
	Level float64
	// ExceedOf and ExceedWithin: the 0.9 quantile of the peak must lie above
	// Level in ExceedOf of the last ExceedWithin steps. Default 3 of 5.
	ExceedOf, ExceedWithin int
}

// normal fills in defaults and refuses what cannot be run.
func (c Config) normal() (Config, error) {
	if c.Sample == 0 {
		c.Sample = c.Step
	}
	c.Horizon = orDefault(c.Horizon, defaultHorizon)
	c.Warmup = orDefault(c.Warmup, defaultWarmup)
	c.ExceedOf = orDefault(c.ExceedOf, 3)
	c.ExceedWithin = orDefault(c.ExceedWithin, 5)
	switch {
	case c.Step <= 0 || c.Step > maxStep:
		return c, fmt.Errorf("predict: step of %v is not within 0 and %v: set Config.Step", c.Step, maxStep)
	case c.Sample < 0 || c.Step%c.Sample != 0:
		return c, fmt.Errorf("predict: step of %v is not a whole multiple of the sample of %v", c.Step, c.Sample)
	case c.perStep() > maxPerStep:
		return c, fmt.Errorf("predict: %d samples in a step, at most %d: use a longer sample", c.perStep(), maxPerStep)
	case c.Horizon < 1 || c.Horizon > maxHorizon:
		return c, fmt.Errorf("predict: horizon of %d steps is not within 1 and %d", c.Horizon, maxHorizon)
	case c.span() > maxSpan:
		return c, fmt.Errorf("predict: horizon of %d samples, at most %d: use a longer sample or fewer steps", c.span(), maxSpan)
	case c.Warmup < 3 || c.Warmup > 10000:
		return c, fmt.Errorf("predict: warm-up of %d samples is not within 3 and 10000", c.Warmup)
	case c.MaxGap < 0 || c.MaxGap > 1<<20:
		return c, fmt.Errorf("predict: gap of %d samples is not within 0 and %d", c.MaxGap, 1<<20)
	case c.Season < 0 || c.Season > maxSeason || c.Season%c.Sample != 0 || c.Season > 0 && c.Season < 4*c.Step:
		return c, fmt.Errorf("predict: season of %v is not 4 steps to %v long, in whole samples", c.Season, maxSeason)
	case !(c.Level >= 0 && c.Level <= limit):
		return c, fmt.Errorf("predict: level %g is not within 0 and %g", c.Level, limit)
	case c.ExceedOf < 1 || c.ExceedOf > c.ExceedWithin || c.ExceedWithin > 64:
		return c, fmt.Errorf("predict: exceed %d of %d: want 1 <= of <= within <= 64", c.ExceedOf, c.ExceedWithin)
	}
	c.MaxGap = orDefault(c.MaxGap, max(5, c.perStep()))
	return c, nil
}

func (c Config) perStep() int { return int(c.Step / c.Sample) }

// span is the horizon in samples.
func (c Config) span() int { return c.Horizon * c.perStep() }

func orDefault(v, byDefault int) int {
	if v == 0 {
		return byDefault
	}
	return v
}
