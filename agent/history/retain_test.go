package history

import (
	"testing"
	"time"
)

func TestRetentionDropsOldChunksLogsAndVMs(t *testing.T) {
	c := &clock{now: epoch}
	dir := t.TempDir()
	s := openTest(t, dir, c, nil)
	k := Key{"vm1", CPUUsed}
	for i := range 600 {
		c.Set(epoch.Add(time.Duration(i) * time.Second))
		must(t, s.Append(c.Now(), k, 1))
		must(t, s.Flush())
	}
	count := func(prefix byte) (n int) {
		must(t, s.scanKeys([]byte{prefix}, func([]byte) { n++ }))
		return n
	}
	if count(prefixChunk) == 0 {
		t.Fatal("nothing was sealed")
	}
	for _, tt := range []struct {
		after       time.Duration
		step        time.Duration
		fine, there bool // whether the finest tier, and any, has points
	}{
		{30 * time.Minute, time.Second, true, true},
		{2 * time.Hour, time.Second, false, true},
		{89 * 24 * time.Hour, 5 * time.Minute, false, true},
		{91 * 24 * time.Hour, 5 * time.Minute, false, false},
	} {
		c.Set(epoch.Add(tt.after))
		must(t, s.Flush())
		must(t, s.Sweep())
		stored := 0
		must(t, s.scanKeys(tierPrefix(prefixChunk, 1), func([]byte) { stored++ }))
		if (stored > 0) != tt.fine {
			t.Errorf("after %v the finest tier has %d chunks", tt.after, stored)
		}
		got, err := s.Range(k, epoch, epoch.Add(time.Hour), tt.step)
		must(t, err)
		if (len(got) > 0) != tt.there {
			t.Errorf("after %v there are %d points", tt.after, len(got))
		}
	}
	if n := count(prefixVM) + count(prefixChunk) + count(prefixLog); n != 0 {
		t.Errorf("%d keys are left of a VM whose retention ended", n)
	}
	if st := s.Stats(); st.VMs != 0 || st.UnsealedPoints != 0 {
		t.Errorf("%+v", st)
	}
}

// A step that is no longer configured must not keep its disk space for ever.
func TestTiersOfAnEarlierConfigurationAreSwept(t *testing.T) {
	c := &clock{now: epoch}
	dir := t.TempDir()
	s := openTest(t, dir, c, func(o *Options) { o.Tiers = []Tier{{2 * time.Second, time.Hour}} })
	for i := range 600 {
		c.Set(epoch.Add(time.Duration(i) * time.Second))
		must(t, s.Append(c.Now(), Key{"vm1", CPUUsed}, 1))
		must(t, s.Flush())
	}
	must(t, s.Close())
	s = openTest(t, dir, c, nil)
	must(t, s.Sweep())
	left := 0
	must(t, s.scanKeys(tierPrefix(prefixChunk, 2), func([]byte) { left++ }))
	must(t, s.scanKeys(tierPrefix(prefixLog, 2), func([]byte) { left++ }))
	if left != 0 {
		t.Errorf("%d keys of the old step are left", left)
	}
}
