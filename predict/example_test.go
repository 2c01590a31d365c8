package predict_test

import (
	"fmt"
	"math"
	"time"

	"headroom/predict"
)

// A forecaster is fed one value per sample and asked whenever a decision is due.
func Example() {
	f, err := predict.New(predict.Config{Sample: time.Second, Step: 5 * time.Second, Horizon: 12})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 60 {
		cores := 0.30 + 0.01*float64(i%3)
		if i == 30 {
			cores = math.NaN() // the sampler had nothing: missing, not zero
		}
		f.Observe(cores)
	}
	fc := f.Forecast()
	fmt.Printf("ready %v after %d samples, %d missing\n", fc.Ready, fc.Observed, fc.Missing)
	fmt.Printf("the next minute's peak: median %.2f cores\n", fc.Peak[0])
	fmt.Printf("P(peak > 0.5 cores) = %.2f\n", fc.ExceedProbability(0.5))
	// Output:
	// ready true after 59 samples, 1 missing
	// the next minute's peak: median 0.31 cores
	// P(peak > 0.5 cores) = 0.00
}

// The demand of a host is the distribution of the sum over its VMs.
func ExampleSum() {
	vm := func(cores float64) predict.Forecast {
		f, _ := predict.New(predict.Config{Step: time.Second})
		for i := range 100 {
			f.Observe(cores + 0.1*float64(i%2))
		}
		return f.Forecast()
	}
	host := predict.Sum([]predict.Forecast{vm(1), vm(2)}, nil)
	fmt.Printf("ready %v, peak between %.1f and %.1f cores\n", host.Ready, host.Peak[0], host.Peak[4])
	// Output:
	// ready true, peak between 3.2 and 3.2 cores
}

// The peak of a host's demand is calibrated on the host's own past peaks.
func ExampleJoint() {
	c := predict.Config{Step: time.Minute, Horizon: 3}
	host, _ := predict.NewJoint(c, 2)
	a, _ := predict.New(c)
	b, _ := predict.New(c)
	var got predict.Forecast
	for i := range 300 {
		// Two VMs that are busy in turns: their peaks never add up.
		x, y := 1+float64(i%2), 1+float64((i+1)%2)
		a.Observe(x)
		b.Observe(y)
		got = host.Observe([]float64{x, y}, predict.Sum([]predict.Forecast{a.Forecast(), b.Forecast()}, nil))
	}
	fmt.Printf("%s: peak of 3 cores, forecast %.1f, at or below its P95 in %.0f %% of cases\n", got.Method, got.Peak[0], 100*got.PeakCoverage)
	// Output:
	// sum+joint: peak of 3 cores, forecast 3.0, at or below its P95 in 100 % of cases
}

// A climb is seen while it is young, and explained in numbers.
func ExampleForecaster_HotSpots() {
	f, _ := predict.New(predict.Config{Sample: time.Second, Step: 5 * time.Second})
	for i := range 36 {
		f.Observe(0.1 + 0.01*math.Max(0, float64(i-25)))
	}
	for _, s := range f.HotSpots() {
		if s.Kind == "rise" {
			fmt.Println(f.Forecast().Peak[2] > 0.6)
		}
	}
	// Output:
	// true
}

// What was learned survives a restart.
func ExampleForecaster_MarshalBinary() {
	c := predict.Config{Step: time.Second}
	before, _ := predict.New(c)
	for i := range 100 {
		before.Observe(float64(i % 4))
	}
	state, _ := before.MarshalBinary()

	after, _ := predict.New(c)
	if err := after.UnmarshalBinary(state); err != nil {
		fmt.Println("starting anew:", err) // another version or configuration
	}
	fmt.Println(after.Forecast().Observed, after.Forecast().Peak == before.Forecast().Peak)
	// Output:
	// 100 true
}
