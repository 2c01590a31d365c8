package predict

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// ErrStateVersion says that state was written by a version of this package that
// this one does not know. It is not read at all; start anew.
var ErrStateVersion = errors.New("predict: state of another version: start with a new forecaster")

// ErrStateCorrupt says that state is damaged. Start anew.
var ErrStateCorrupt = errors.New("predict: damaged state: start with a new forecaster")

// ErrStateConfig says that state belongs to another configuration (sample, step,
// horizon, season or members), so that its numbers mean something else.
var ErrStateConfig = errors.New("predict: state of another configuration: start with a new forecaster")

// stateVersion changes whenever the meaning of a single byte does.
const stateVersion = 5

// replayedVersion is the oldest version of which the configuration and the
// samples are read: what they teach is learned again.
const replayedVersion = 1

const stateMagic = "hrpf"

// MarshalBinary writes everything that was learned: magic, version, checksum of
// the rest, configuration, members. It does not fail.
func (f *Forecaster) MarshalBinary() ([]byte, error) {
	c := &codec{}
	conf := f.config
	conf.state(c)
	f.state(c)
	if c.err != nil {
		return nil, fmt.Errorf("predict: state: %w", c.err)
	}
	out := make([]byte, 0, len(c.buf)+12)
	out = append(out, stateMagic...)
	out = binary.LittleEndian.AppendUint32(out, stateVersion)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(c.buf))
	return append(out, c.buf...), nil
}

// UnmarshalBinary replaces f by what MarshalBinary wrote. On a Forecaster made
// by New the configuration must be the same in sample, step, horizon,
// season and LSTM (ErrStateConfig); its other settings stay those of f. On a
// zero Forecaster the written configuration is taken. State of an older
// version is learned again from the samples in it, the last 512. f is unchanged
// after any error.
func (f *Forecaster) UnmarshalBinary(data []byte) error {
	if len(data) < 12 || string(data[:4]) != stateMagic {
		return fmt.Errorf("%w: no state of this package", ErrStateCorrupt)
	}
	v := binary.LittleEndian.Uint32(data[4:])
	if v < replayedVersion || v > stateVersion {
		return fmt.Errorf("%w (version %d, want %d)", ErrStateVersion, v, stateVersion)
	}
	body := data[12:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(data[8:]) {
		return fmt.Errorf("%w: wrong checksum", ErrStateCorrupt)
	}
	if v < stateVersion {
		return f.replay(body)
	}
	return f.read(body)
}

// like makes the Forecaster that the state in c belongs to.
func (f *Forecaster) like(c *codec) (*Forecaster, error) {
	var conf Config
	conf.state(c)
	if c.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateCorrupt, c.err)
	}
	if f.series != nil {
		if have := f.config; conf.shape() != have.shape() {
			return nil, fmt.Errorf("%w: %+v, want %+v", ErrStateConfig, conf.shape(), have.shape())
		}
		conf = f.config
	}
	fresh, err := New(conf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateCorrupt, err)
	}
	return fresh, nil
}

// replay takes the body of an older version and learns from its samples.
func (f *Forecaster) replay(body []byte) error {
	c := &codec{buf: body, reading: true}
	fresh, err := f.like(c)
	if err != nil {
		return err
	}
	old := newSeries(fresh.config)
	old.state(c)
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrStateCorrupt, c.err)
	}
	for _, x := range old.past(len(old.x)) {
		fresh.Observe(x)
	}
	*f = *fresh
	f.adopt()
	return nil
}

// read takes the body, whose checksum was right.
func (f *Forecaster) read(body []byte) error {
	c := &codec{buf: body, reading: true}
	fresh, err := f.like(c)
	if err != nil {
		return err
	}
	fresh.state(c)
	if c.err == nil && len(c.buf) > 0 {
		c.fail(fmt.Sprintf("%d bytes too many", len(c.buf)))
	}
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrStateCorrupt, c.err)
	}
	fresh.stale = true
	*f = *fresh
	f.adopt()
	return nil
}

// shape is the part of the configuration that gives the numbers their meaning.
func (c Config) shape() Config {
	return Config{Sample: c.Sample, Step: c.Step, Horizon: c.Horizon, Season: c.Season, LSTM: c.LSTM}
}

func (c *Config) state(s *codec) {
	sample, step, season := int64(c.Sample), int64(c.Step), int64(c.Season)
	s.int64(&sample, int64(maxStep))
	s.int64(&step, int64(maxStep))
	s.int64(&season, int64(maxSeason))
	c.Sample, c.Step, c.Season = time.Duration(sample), time.Duration(step), time.Duration(season)
	s.bool(&c.LSTM)
	s.int(&c.Horizon, maxHorizon)
	s.int(&c.Warmup, maxSpan*100)
	s.int(&c.MaxGap, 1<<20)
	s.number(&c.Level)
	s.int(&c.ExceedOf, 64)
	s.int(&c.ExceedWithin, 64)
	if s.reading && s.err == nil && (sample == 0 || step == 0 || c.Horizon == 0) {
		s.fail("the configuration is empty")
	}
}

// state keeps everything that Observe changes and that refresh does not redo. A
// state read between two steps gives the forecast of its last sample.
func (f *Forecaster) state(c *codec) {
	f.series.state(c)
	for i, m := range f.members {
		m.state(c)
		f.cards[i].state(c)
		f.peaks[i].state(c)
	}
	f.given.state(c)
	f.conform.state(c)
	c.int(&f.chosen, len(f.members)-1)
	f.coverage.state(c)
	f.peakCov.state(c)
	c.positive(&f.shift.up, &f.shift.down)
	f.spots.state(c)
}

func (s *series) state(c *codec) {
	c.int64(&s.t, maxCount)
	c.int64(&s.observed, maxCount)
	c.int64(&s.missing, maxCount)
	c.int(&s.gap, maxCount)
	c.demands(s.x)
	c.demands(s.y)
	if c.reading && s.observed+s.missing != s.t {
		c.fail("the counts do not add up")
	}
}

// demands keeps values that are missing or within 0 and limit.
func (c *codec) demands(vs []float64) {
	c.floats(vs)
	if !c.reading {
		return
	}
	for i, v := range vs {
		if v < 0 || v > limit {
			c.fail("a demand is out of bounds")
			vs[i] = 0
		}
	}
}

func (r *running) state(c *codec) {
	c.positive(&r.n)
	c.number(&r.mean)
	c.positive(&r.sq)
}

// state keeps the ring in order of arrival; the sorted half is rebuilt.
func (w *window) state(c *codec) {
	n := len(w.ring)
	c.int(&n, windowSize)
	if !c.reading {
		c.float32s(w.ring[w.next:])
		c.float32s(w.ring[:w.next])
		return
	}
	w.ring, w.next = make([]float32, n), 0
	c.float32s(w.ring)
	for _, v := range w.ring {
		if v != v {
			c.fail("an outcome is missing")
			return
		}
	}
	w.sorted = slices.Clone(w.ring)
	slices.Sort(w.sorted)
}

func (p *spread) state(c *codec) {
	for a := range p.lags {
		c.float32s(p.pending[a])
		p.seen[a].state(c)
	}
	c.bool(&p.ready)
	c.numbers(p.points)
	c.numbers(p.sigma)
}

func (k *card) state(c *codec) {
	for _, ring := range k.rings {
		for i := range ring {
			c.float32s(ring[i][:])
		}
	}
	c.positive(&k.loss, &k.naive, &k.weight)
	for what := range k.levels {
		for l := range k.levels[what] {
			c.positive(&k.levels[what][l].loss, &k.levels[what][l].naive)
		}
	}
	c.bool(&k.off)
}

func (p *peakCalibration) state(c *codec) {
	c.float32s(p.pending)
	p.seen.state(c)
}

func (k *conformal) state(c *codec) {
	for what := range k.shifts {
		c.numbers(k.shifts[what][:])
		for i, v := range k.shifts[what] {
			if c.reading && (abs(v) > conformalMost || i == 0 && v != 0) {
				c.fail("a shift is out of bounds")
			}
		}
	}
}

func (s *spots) state(c *codec) {
	s.level.state(c)
	s.recent.state(c)
	c.number(&s.from, &s.to)
	c.positive(&s.sd)
	c.int(&s.since, maxCount)
	c.uint64(&s.over)
}

func (m *naive) state(c *codec) {
	m.spread.state(c)
	c.float(&m.last)
	for i := range m.step {
		m.step[i].state(c)
	}
}

func (m *ses) state(c *codec) {
	m.spread.state(c)
	c.int64(&m.n, maxCount)
	c.numbers(m.levels[:])
	for i := range m.errs {
		m.errs[i].state(c)
	}
}

func (m *holt) state(c *codec) {
	m.spread.state(c)
	c.int64(&m.n, maxCount)
	for i := range m.cells {
		c.number(&m.cells[i].level, &m.cells[i].trend)
		m.cells[i].err.state(c)
	}
}

// state keeps the ring as it lies; the sorted values are rebuilt.
func (m *decay) state(c *codec) {
	n, next := len(m.ring), m.next
	c.int(&n, len(m.weight))
	c.int(&next, len(m.weight)-1)
	if !c.reading {
		c.demands(m.ring)
		return
	}
	ring := make([]float64, n)
	c.demands(ring)
	m.ring, m.sorted, m.next = nil, nil, 0
	for _, y := range ring {
		if y != y {
			c.fail("a value is missing")
			return
		}
		m.insert(y)
	}
	if next > 0 && n < len(m.weight) {
		c.fail("a ring that is not full has been round")
		return
	}
	m.next = next
	if n > 0 {
		m.cached = m.read()
	}
}

func (m *rise) state(c *codec) {
	c.int64(&m.n, maxCount)
	c.int64(&m.jumped, maxCount)
	c.demands(m.ring[:])
	for i := range m.usual {
		m.usual[i].state(c)
		c.numbers(m.recent[i][:])
	}
	m.noise.state(c)
	c.bool(&m.active)
	c.positive(&m.age)
	c.number(&m.slope, &m.from, &m.score)
	for _, v := range m.ring {
		if v != v {
			c.fail("a value is missing")
		}
	}
	if c.reading && m.active && m.n <= minRiseSamples {
		c.fail("a rise without samples")
	}
}
