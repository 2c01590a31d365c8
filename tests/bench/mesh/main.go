// Command mesh measures the negotiation and the gossip: the model searched
// exhaustively, its mutants, the simulated fleets, the herd, gossip of real Serf
// nodes in virtual time, and hand-overs broken in a lab of real hypervisors.
// `make bench-mesh` runs it; docs/MESH.md tells what is measured and how. The last
// line is one JSON object; a figure that could not be measured is not in it, and
// the reason stands above.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

// figures are the last line, by name.
type figures map[string]float64

// options are the command line's.
type options struct {
	seeds, first uint64
	herds        uint64
	full         bool
	hosts        string
	lab          string
	only         string
}

func main() {
	var o options
	flag.Uint64Var(&o.seeds, "seeds", 1000, "fleets to simulate")
	flag.Uint64Var(&o.first, "first", 1, "the first seed")
	flag.Uint64Var(&o.herds, "herds", 200, "fleets of 100 in which 20 hosts become hot at once")
	flag.BoolVar(&o.full, "full", false, "search the model's large bounds too, which takes minutes")
	flag.StringVar(&o.hosts, "hosts", "10,100,200", "sizes of the clusters of real Serf nodes")
	flag.StringVar(&o.lab, "lab", "", "shell command that breaks hand-overs in the lab and ends with a JSON line of lab_* figures")
	flag.StringVar(&o.only, "only", "", "measure one part alone: model, seeds, herd, gossip, lab")
	flag.Parse()
	out := figures{}
	failed := false
	for _, part := range []struct {
		name string
		run  func(options, figures) error
	}{{"model", searchModel}, {"seeds", simulate}, {"herd", herd}, {"gossip", gossip}, {"lab", runLab}} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.run(o, out); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", part.name, err)
			failed = true
		}
	}
	line, err := json.Marshal(out)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
	if failed {
		os.Exit(1)
	}
}
