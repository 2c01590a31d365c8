package predict

import (
	"math/rand"
	"testing"
)

// TestNewModelForgetsOldErrors: the errors of a model found before demand moved
// to another level do not correct the model found after it.
func TestNewModelForgetsOldErrors(t *testing.T) {
	f := lab(t)
	rng := rand.New(rand.NewSource(48))
	m := f.members[6].(*arimaMember)
	models := 0
	for i := range 1200 {
		demand := 0.1
		if i >= 100 {
			demand = 0.5
		}
		f.Observe(noisy(rng, demand, 0.05))
		if m.fitted && m.since == 0 {
			models++
		}
		if models < 2 {
			continue
		}
		if q := f.steps[6][11]; q[0] < 0.45 || q[0] > 0.55 {
			t.Fatalf("sample %d of 0.5: the second model forecasts %.3f", i, q)
		}
	}
	if models < 2 {
		t.Fatalf("%d models were found", models)
	}
}
