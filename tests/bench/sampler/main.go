package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

// options size a run. They are fixed in the Makefile before anything is seen.
type options struct {
	rounds  int
	domains int // real QEMU domains
	doc     string
	only    string
}

func main() {
	if role := os.Getenv(helperEnv); role != "" {
		if err := runHelper(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 11, "rounds of each comparison")
	flag.IntVar(&o.domains, "domains", 20, "real QEMU domains for the comparison with libvirt; 0 leaves it out")
	flag.StringVar(&o.doc, "doc", "", "file whose block of figures is replaced")
	flag.StringVar(&o.only, "only", "", "measure only the stage whose name contains this, and write no document")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-sampler:", err)
		os.Exit(1)
	}
}

// stages are run one after the other, each with nothing of the others alive but
// what it is compared with.
var stages = []struct {
	name string
	run  func(context.Context, options, *report) error
}{
	{"switches", measureSwitches},
	{"accuracy", measureAccuracy},
	{"block I/O", measureBlockIO},
	{"passes, loop and network", measurePasses},
	{"libvirt", measureLibvirt},
}

func run(ctx context.Context, o options) error {
	r := newReport()
	before, err := readMachine()
	if err != nil {
		return err
	}
	for _, s := range stages {
		if !strings.Contains(s.name, o.only) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", s.name)
		if err := s.run(ctx, o, r); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := addMachine(r, before); err != nil {
		return err
	}
	text := r.table()
	fmt.Print(text)
	if o.doc != "" && o.only == "" {
		if err := replaceFigures(o.doc, text); err != nil {
			return err
		}
	}
	line, err := r.json()
	if err != nil {
		return err
	}
	fmt.Println(line)
	return nil
}
