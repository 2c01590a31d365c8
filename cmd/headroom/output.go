package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// print writes v as JSON when the user asked for it, and the table otherwise.
func (e *env) print(v any, table func(w *tabwriter.Writer)) error {
	if e.json {
		return writeJSON(e.out, v)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	table(w)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// row writes one line of a table.
func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

const absent = "-" // what a table shows for a value that is not known

func cores(v float64) string { return fmt.Sprintf("%.2f", v) }
func mib(v float64) string   { return fmt.Sprintf("%.0f", v) }

// opt formats a value that may be absent.
func opt(v *float64, format string) string {
	if v == nil {
		return absent
	}
	return fmt.Sprintf(format, *v)
}

func optTime(t *time.Time) string {
	if t == nil {
		return absent
	}
	return clock(*t)
}

// clock is the local time of day; the date is added when it is not today's.
func clock(t time.Time) string {
	t = t.Local()
	if time.Since(t) > 20*time.Hour || time.Until(t) > 20*time.Hour {
		return t.Format("2006-01-02 15:04:05")
	}
	return t.Format("15:04:05")
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

func dash(s string) string {
	if s == "" {
		return absent
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func itoa(n int) string { return strconv.Itoa(n) }

// join puts two notes on one line.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
