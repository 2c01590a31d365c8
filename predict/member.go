package predict

// Member is one forecasting method. It is fed one value per sample and
// forecasts step means; it is not safe for concurrent use.
type Member interface {
	// Name is short, lower case and constant.
	Name() string
	// Observe takes the next sample; NaN is a missing one.
	Observe(x float64)
	// Forecast writes the distribution of steps 1..h to dst[:h]; false means
	// that the member has nothing to say now.
	Forecast(h int, dst []Quantiles) (ok bool)
}

// member is a Member whose state can be kept.
type member interface {
	Member
	state(c *codec)
}

// peaker is a member that knows the peak better than the calibration of past
// peaks could.
type peaker interface {
	peak(dst *Quantiles) (ok bool)
}
