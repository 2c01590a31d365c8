package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// origin remembers where each key of a document stands.
type origin struct {
	file   string
	lines  map[string]int // dotted key, with indices -> 1-based line
	marks  []mark         // the same with columns, in the order of the document
	starts []int          // line of each expression, ascending
	total  int            // lines of the document
	broken []string       // keys whose values did not decode
	bare   []mark         // durations that are written as numbers
}

// mark is the place at which a key or a list element begins, both 1-based.
type mark struct {
	line, column int
	key          string
}

// newOrigin walks the document's syntax. The error is a *Problem with the line of
// the first syntax mistake.
func newOrigin(file string, document []byte) (*origin, error) {
	o := &origin{file: file, lines: map[string]int{}, total: bytes.Count(document, []byte{'\n'}) + 1}
	w := &walker{origin: o, doc: document, arrays: map[string]int{}}
	for i, c := range document {
		if c == '\n' {
			w.newlines = append(w.newlines, i)
		}
	}
	w.parser.Reset(document)
	prefix := ""
	for w.parser.NextExpression() {
		e := w.parser.Expression()
		switch e.Kind {
		case unstable.Table:
			prefix = w.expand(w.header(e)) + "."
		case unstable.ArrayTable:
			key := w.expand(w.header(e))
			prefix = fmt.Sprintf("%s[%d].", key, w.arrays[key])
			w.arrays[key]++
		case unstable.KeyValue:
			_, offset := w.key(e)
			w.starts = append(w.starts, w.lineOf(offset))
			w.keyValue(e, prefix)
		}
	}
	if err := w.parser.Error(); err != nil {
		line := o.total
		if pe, ok := err.(*unstable.ParserError); ok && len(pe.Highlight) > 0 {
			line = w.lineOf(w.parser.Range(pe.Highlight).Offset)
		}
		return nil, &Problem{File: file, Line: line, What: "not TOML: " + err.Error(), Do: "correct the syntax at this line"}
	}
	return o, nil
}

type walker struct {
	*origin
	parser   unstable.Parser
	doc      []byte
	newlines []int          // their offsets
	arrays   map[string]int // array table key -> elements seen
}

func (w *walker) lineOf(offset uint32) int {
	before, _ := slices.BinarySearch(w.newlines, int(offset))
	return before + 1
}

// key joins the parts of a node's key, and tells the offset of the first.
func (w *walker) key(n *unstable.Node) (key string, offset uint32) {
	var parts []string
	it := n.Key()
	for it.Next() {
		if len(parts) == 0 {
			offset = it.Node().Raw.Offset
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), offset
}

// header records where a table begins.
func (w *walker) header(n *unstable.Node) string {
	key, offset := w.key(n)
	w.starts = append(w.starts, w.lineOf(offset))
	w.set(key, offset)
	return key
}

func (w *walker) set(key string, offset uint32) {
	line := w.lineOf(offset)
	if _, ok := w.lines[key]; !ok {
		w.lines[key] = line
	}
	column := int(offset) - bytes.LastIndexByte(w.doc[:offset], '\n')
	w.marks = append(w.marks, mark{line, column, key})
}

// expand inserts the running index where a table header continues an array table:
// [[a]] followed by [a.b] is a[0].b.
func (w *walker) expand(key string) string {
	for k, n := range w.arrays {
		if rest, ok := strings.CutPrefix(key, k+"."); ok && n > 0 {
			return fmt.Sprintf("%s[%d].%s", k, n-1, rest)
		}
	}
	return key
}

func (w *walker) keyValue(n *unstable.Node, prefix string) {
	key, offset := w.key(n)
	w.set(prefix+key, offset)
	w.value(n.Value(), prefix+key, offset)
}

// value records what stands inside arrays and inline tables.
func (w *walker) value(n *unstable.Node, key string, offset uint32) {
	switch n.Kind {
	case unstable.InlineTable:
		it := n.Children()
		for it.Next() {
			w.keyValue(it.Node(), key+".")
		}
	case unstable.Integer, unstable.Float:
		// The library hands a bare number to UnmarshalText and loses the position of
		// the refusal, so it is found here.
		if t, ok := field(key); ok && t == reflect.TypeFor[Duration]() {
			w.bare = append(w.bare, w.marks[len(w.marks)-1])
		}
	case unstable.Array:
		i := 0
		for it := n.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			w.element(it.Node(), fmt.Sprintf("%s[%d]", key, i), offset)
			i++
		}
	}
}

func (w *walker) element(n *unstable.Node, key string, offset uint32) {
	if n.Raw.Length > 0 {
		offset = n.Raw.Offset
	} else if c := n.Child(); n.Kind == unstable.InlineTable && c.Valid() {
		_, offset = w.key(c)
	}
	w.set(key, offset)
	w.value(n, key, offset)
}

// line returns where a key stands: itself, or the nearest parent that does; 0 when
// the file says nothing about it, so that the value is a default.
func (o *origin) line(key string) int {
	for key != "" {
		if l, ok := o.lines[key]; ok {
			return l
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// expression returns the index of the expression that covers a line, or -1.
func (o *origin) expression(line int) int {
	at := -1
	for i, start := range o.starts {
		if start <= line {
			at = i
		}
	}
	return at
}

// keyAt returns the last key or list element that begins at or before a place.
func (o *origin) keyAt(line, column int) string {
	key := ""
	for _, m := range o.marks {
		if m.line > line || (m.line == line && m.column > column) {
			break
		}
		key = m.key
	}
	return key
}

// isBroken tells whether key, or something that contains it, did not decode.
func (o *origin) isBroken(key string) bool {
	for _, b := range o.broken {
		if rest, ok := strings.CutPrefix(key, b); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// blank overwrites the expression that covers a line with spaces, keeping the line
// numbers. It reports false when there is nothing left to blank.
func (o *origin) blank(doc []byte, line int) bool {
	i := o.expression(line)
	if i < 0 {
		return false
	}
	end := o.total + 1
	if i+1 < len(o.starts) {
		end = o.starts[i+1]
	}
	changed, at := false, 1
	for p := range doc {
		if doc[p] == '\n' {
			at++
			continue
		}
		if at >= o.starts[i] && at < end && doc[p] != ' ' {
			doc[p], changed = ' ', true
		}
	}
	return changed
}
