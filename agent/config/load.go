package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxFile bounds the configuration file, in bytes: a path given by mistake (a disk
// image, a device) must not be read whole.
const maxFile = 64 << 10

// maxProblems ends the search for further mistakes in a hopeless file.
const maxProblems = 50

// Load reads the file at path over the defaults and checks the result. Its error
// joins one *Problem for each mistake; an unreadable file gives the operating
// system's error, wrapped. The Config is usable only with a nil error.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("open the configuration: %w; start from packaging/headroom.toml", err)
	}
	defer f.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(&limitedFile{f, maxFile}); err != nil {
		return Config{}, fmt.Errorf("read the configuration %s: %w", path, err)
	}
	return Parse(path, buf.Bytes())
}

// limitedFile fails, instead of ending silently, when the limit is passed.
type limitedFile struct {
	f    *os.File
	left int
}

func (l *limitedFile) Read(p []byte) (int, error) {
	n, err := l.f.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, fmt.Errorf("it is larger than %d bytes; is the path right?", maxFile)
	}
	return n, err
}

// Parse is Load for a document that was read already; file is the name that stands
// in its problems.
func Parse(file string, document []byte) (Config, error) {
	if len(document) > maxFile {
		return Config{}, fmt.Errorf("%s is larger than %d bytes; is the path right?", file, maxFile)
	}
	o, err := newOrigin(file, document)
	if err != nil {
		return Config{}, err
	}
	cfg := Default()
	problems := o.decode(&cfg, document)
	cfg.origin = o
	// Values are checked even when keys are wrong: one round of corrections.
	if err := cfg.Check(); err != nil {
		problems = append(problems, err)
	}
	return cfg, errors.Join(problems...)
}

// decode fills cfg and returns what could not be decoded. The library stops at the
// first value of a wrong type, so that value's lines are blanked and the rest is
// decoded again, until nothing more is wrong.
func (o *origin) decode(cfg *Config, document []byte) []error {
	doc := bytes.Clone(document)
	var problems []error
	for _, m := range o.bare {
		problems = append(problems, o.wrongValue(m.line, m.column, errDuration))
		o.blank(doc, m.line)
	}
	for len(problems) < maxProblems {
		*cfg = Default()
		dec := toml.NewDecoder(bytes.NewReader(doc)).DisallowUnknownFields()
		err := dec.Decode(cfg)
		var unknown *toml.StrictMissingError
		var wrong *toml.DecodeError
		switch {
		case err == nil:
			return problems
		case errors.As(err, &unknown):
			return append(problems, o.unknown(unknown)...)
		case errors.As(err, &wrong):
			line, column := wrong.Position()
			problems = append(problems, o.wrongValue(line, column, wrong))
			if !o.blank(doc, line) {
				return problems
			}
		default:
			return append(problems, fmt.Errorf("%s: %w", o.file, err))
		}
	}
	return problems
}

// unknown turns the keys that have no field into problems, each with the nearest
// key that exists.
func (o *origin) unknown(err *toml.StrictMissingError) []error {
	var out []error
	for i := range min(len(err.Errors), maxProblems) {
		e := &err.Errors[i]
		line, _ := e.Position()
		key := strings.Join(e.Key(), ".")
		do := "remove it"
		if near := nearest(key); near != "" {
			do = "did you mean " + near + "?"
		}
		out = append(out, &Problem{File: o.file, Line: line, Key: key, What: "unknown key", Do: do})
	}
	return out
}

func (o *origin) wrongValue(line, column int, err error) error {
	key := o.keyAt(line, column)
	o.broken = append(o.broken, key)
	p := &Problem{File: o.file, Line: line, Key: key, What: strings.TrimPrefix(err.Error(), "toml: ")}
	if want := wanted(p.Key); want != "" {
		p.What, p.Do = "the value has the wrong type or form", "give "+want
	}
	return p
}

// field finds the struct field that a dotted key names; indices are skipped.
func field(key string) (reflect.Type, bool) {
	t := reflect.TypeFor[Config]()
	for _, part := range strings.Split(key, ".") {
		part, _, _ = strings.Cut(part, "[")
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return nil, false
		}
		i := slices.IndexFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Tag.Get("toml") == part })
		if i < 0 {
			return nil, false
		}
		t = t.Field(i).Type
	}
	return t, true
}

// wanted describes the value that a key takes, "" when the key is not known.
func wanted(key string) string {
	t, ok := field(key)
	switch {
	case !ok:
		return ""
	case t == reflect.TypeFor[Duration]():
		return `a duration in quotes such as "250ms", "30s", "2h" or "90d"`
	case t.Kind() == reflect.String:
		return "a text in quotes"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return `a list of texts such as ["one", "two"]`
	case t.Kind() == reflect.Slice:
		return "a list of tables, as in the example file"
	default:
		return "a table"
	}
}

// Keys returns every dotted key of the file in the order of the struct; keys of
// list elements carry "[]", as in "slots.classes[].name".
func Keys() []string { return keysOf(reflect.TypeFor[Config](), "") }

func keysOf(t reflect.Type, prefix string) []string {
	var out []string
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("toml")
		if tag == "" {
			continue
		}
		key, ft := prefix+tag, f.Type
		switch {
		case ft.Kind() == reflect.Struct && ft != reflect.TypeFor[Duration]():
			out = append(out, keysOf(ft, key+".")...)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			out = append(append(out, key), keysOf(ft.Elem(), key+"[].")...)
		default:
			out = append(out, key)
		}
	}
	return out
}

// nearest returns the known key that is at most two edits away, or the one with
// the same last part in another section, or "".
func nearest(key string) string {
	best, bestAt := "", 3
	last := key[strings.LastIndex(key, ".")+1:]
	for _, k := range Keys() {
		k = strings.ReplaceAll(k, "[]", "")
		if d := distance(key, k); d < bestAt {
			best, bestAt = k, d
		}
		if best == "" && k[strings.LastIndex(k, ".")+1:] == last {
			best = k
		}
	}
	return best
}

// distance is the Levenshtein distance of two keys.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
