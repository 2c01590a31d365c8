package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/mattn/go-isatty"

	"headroom/tests/lab"
)

func main() {
	bin := flag.String("bin", "bin/headroom", "the headroom binary")
	plain := flag.Bool("plain", !isatty.IsTerminal(os.Stdout.Fd()), "print lines instead of a live screen")
	simulate := flag.Bool("simulate", false, "play on the simulated driver even where a lab could be had")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, stop, *bin, *plain, *simulate); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// chooseStage prefers real hypervisors, and says what is missing otherwise.
func chooseStage(bin string, simulate bool) stage {
	why := lab.Available()
	if why == nil && !simulate {
		return newLabStage(bin)
	}
	if why != nil {
		fmt.Printf("Real hypervisors cannot be had here: %v\n", why)
	}
	fmt.Println("The story plays on the SIMULATED driver instead: real gossip, RPC, forecasts and planner, simulated hosts and guests.")
	return newSimStage()
}

func run(ctx context.Context, stop func(), bin string, plain, simulate bool) error {
	s := chooseStage(bin, simulate)
	d := &director{stage: s}
	closeScreen := d.display(stop, plain)
	var results []figures
	err := d.tellAll(ctx, &results)
	closeScreen()
	err = errors.Join(err, s.close())
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return errors.New("interrupted; everything is removed")
		}
		return err
	}
	without, with := results[0], results[1]
	if err := table(os.Stdout, without, with, s.simulated()); err != nil {
		return err
	}
	failed := failure(without, with)
	if failed != nil {
		fmt.Println(failed)
	}
	return errors.Join(failed, writeVerdict(os.Stdout, verdictOf(without, with, s.simulated())))
}

func (d *director) tellAll(ctx context.Context, results *[]figures) error {
	d.mu.Lock()
	d.now = scene{title: "getting ready", simulated: d.stage.simulated()}
	d.mu.Unlock()
	if err := d.stage.open(ctx, d.say); err != nil {
		return err
	}
	for i, t := range tellings {
		t.title = fmt.Sprintf("%d of %d, %s", i+1, len(tellings), t.title)
		f, err := d.tell(ctx, t)
		if err != nil {
			return err
		}
		*results = append(*results, f)
	}
	return nil
}

// display starts the screen, or the plain lines, and returns what ends it.
func (d *director) display(stop func(), plain bool) (end func()) {
	if plain {
		p := &plainScreen{out: os.Stdout, seen: map[string]bool{}, think: map[string]string{}}
		d.show = p.show
		return func() {}
	}
	prog := tea.NewProgram(screen{stop: stop}, tea.WithAltScreen(), tea.WithoutSignalHandler())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := prog.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "demo: screen:", err)
			stop()
		}
	}()
	d.show = func(s scene) { prog.Send(s) }
	return func() {
		prog.Quit()
		<-done
	}
}

// numbers are left out when two thoughts are compared.
var numbers = regexp.MustCompile(`[0-9.]+`)

// plainScreen prints what is new, and the hosts every five seconds.
type plainScreen struct {
	out   io.Writer
	last  time.Time
	said  string
	title string
	seen  map[string]bool
	think map[string]string // by host
}

func (p *plainScreen) show(s scene) {
	if s.title != p.title {
		p.title = s.title
		fmt.Fprintln(p.out, "==", s.title)
	}
	if s.saying != "" && s.saying != p.said {
		p.said = s.saying
		fmt.Fprintln(p.out, "  ", s.saying)
	}
	for _, e := range s.events {
		if !p.seen[e] {
			p.seen[e] = true
			fmt.Fprintln(p.out, "    ", e)
		}
	}
	for _, h := range s.hosts {
		if key := numbers.ReplaceAllString(h.thinks, "#"); h.thinks != "" && key != p.think[h.name] {
			p.think[h.name] = key
			fmt.Fprintf(p.out, "  %4.0f s  %s thinks: %s\n", s.elapsed.Seconds(), h.name, h.thinks)
		}
	}
	if s.elapsed == 0 || time.Since(p.last) < 5*time.Second {
		return
	}
	p.last = time.Now()
	var hosts []string
	for _, h := range s.hosts {
		text := fmt.Sprintf("%s %.2f/%.2f cores", h.name, h.host.DemandCores, h.host.CPUCores)
		if h.host.ContentionInS != nil {
			text += fmt.Sprintf(" contention in %.0f s (p=%.2f)", *h.host.ContentionInS, h.host.PressureProbability)
		}
		var names []string
		for _, v := range h.vms {
			names = append(names, v.Name)
		}
		hosts = append(hosts, text+" ["+strings.Join(names, " ")+"]")
	}
	fmt.Fprintf(p.out, "  %4.0f s  lost %.2f  %s\n", s.elapsed.Seconds(), s.lost, strings.Join(hosts, "   "))
}
