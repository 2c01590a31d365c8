package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is one appended value of the model.
type sample struct {
	at    int64
	value int64
}

// modelPoints computes from the samples what a tier must hold.
func modelPoints(samples []sample, step int64) []Point {
	fine := map[int64][]int64{}
	for _, x := range samples {
		fine[x.at] = append(fine[x.at], x.value)
	}
	type bucket struct {
		values, all []int64
	}
	coarse := map[int64]*bucket{}
	for at, vs := range fine {
		b := coarse[at/step]
		if b == nil {
			b = &bucket{}
			coarse[at/step] = b
		}
		sum := int64(0)
		for _, v := range vs {
			sum += v
		}
		b.all = append(b.all, vs...)
		// Coarse percentiles are taken of the means of the finest tier.
		if step == 1 {
			b.values = append(b.values, vs...)
		} else {
			b.values = append(b.values, int64(math.Round(float64(sum)/float64(len(vs)))))
		}
	}
	var out []Point
	for n, b := range coarse {
		slices.Sort(b.values)
		slices.Sort(b.all)
		sum := 0.0
		for _, v := range b.all {
			sum += float64(v)
		}
		out = append(out, Point{At: time.Unix(n*step, 0).UTC(), Min: float64(b.all[0]), Max: float64(b.all[len(b.all)-1]),
			Mean: math.Round(sum / float64(len(b.all))), P95: float64(b.values[rank95(len(b.values))]), N: len(b.all)})
	}
	slices.SortFunc(out, func(a, b Point) int { return a.At.Compare(b.At) })
	return out
}

// TestStoreAgreesWithAModelAcrossCrashesAndRestarts appends at random, and flushes,
// closes and crashes at random; every flushed sample must then be in every tier.
func TestStoreAgreesWithAModelAcrossCrashesAndRestarts(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			tiers := []Tier{{time.Second, time.Hour}, {5 * time.Second, 3 * time.Hour}, {5 * time.Minute, 5 * time.Hour}}
			c := &clock{now: epoch}
			dir := t.TempDir()
			open := func() *Store { return openTest(t, dir, c, func(o *Options) { o.Tiers = tiers }) }
			s := open()
			model := map[Key][]sample{}
			keys := []Key{{"a", NetRx}, {"a", NetTx}, {"b", NetRx}}
			for range 900 {
				c.Add(time.Second)
				for _, k := range keys {
					if rng.IntN(10) == 0 {
						continue // a sample that is missing
					}
					x := sample{c.Now().Unix(), rng.Int64N(1000)}
					model[k] = append(model[k], x)
					must(t, s.Append(c.Now(), k, float64(x.value)))
				}
				must(t, s.Flush())
				switch rng.IntN(150) {
				case 0:
					must(t, s.Close())
					c.Add(time.Duration(rng.IntN(200)) * time.Second)
					s = open()
				case 1:
					dir = crash(t, dir)
					must(t, s.Close())
					c.Add(time.Duration(rng.IntN(200)) * time.Second)
					s = open()
				}
			}
			for _, k := range keys {
				for _, tier := range tiers {
					want := modelPoints(model[k], int64(tier.Step/time.Second))
					got, err := s.Range(k, c.Now().Add(-55*time.Minute), c.Now().Add(time.Minute), tier.Step)
					must(t, err)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("%v step %v (-model +store):\n%s", k, tier.Step, diff)
					}
				}
			}
			if st := s.Stats(); st.Corrupt != 0 || st.Lost != 0 || st.Damaged {
				t.Errorf("%+v", st)
			}
		})
	}
}
