package hypervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"libvirt.org/go/libvirt"
)

// hang is a job that returns when release is closed.
func hang(subject string, release chan struct{}) job[int] {
	return job[int]{subject: subject, limit: time.Second, fn: func() (int, error) {
		<-release
		return 1, nil
	}}
}

func quick(subject string) job[int] {
	return job[int]{subject: subject, limit: time.Second, fn: func() (int, error) { return 7, nil }}
}

func TestHungCallIsGivenUpAndDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(3, nil)
		release := make(chan struct{})
		begun := time.Now()
		if _, err := run(t.Context(), p, hang("look up a", release)); !errors.Is(err, ErrTimeout) || time.Since(begun) != time.Second {
			t.Errorf("a hung call ended with %v after %v, want ErrTimeout after 1s", err, time.Since(begun))
		}
		begun = time.Now()
		if _, err := run(t.Context(), p, quick("look up a")); !errors.Is(err, ErrTimeout) || time.Since(begun) != 0 {
			t.Errorf("the next call on it ended with %v after %v, want ErrTimeout at once", err, time.Since(begun))
		}
		if v, err := run(t.Context(), p, quick("look up b")); v != 7 || err != nil || time.Since(begun) != 0 {
			t.Errorf("another domain's call: %d, %v after %v", v, err, time.Since(begun))
		}
		if n := p.hanging(); n != 1 {
			t.Errorf("%d calls count as hanging, want 1", n)
		}
		close(release)
		synctest.Wait()
		if v, err := run(t.Context(), p, quick("look up a")); v != 7 || err != nil {
			t.Errorf("after the hang: %d, %v", v, err)
		}
		if n, held := p.hanging(), len(p.places); n != 0 || held != 0 {
			t.Errorf("after the hang %d hang and %d places are held", n, held)
		}
	})
}

func TestHungCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(3, nil)
		release := make(chan struct{})
		for i := range 3 {
			if _, err := run(t.Context(), p, hang(strconv.Itoa(i), release)); !errors.Is(err, ErrTimeout) {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if _, err := run(t.Context(), p, quick("other")); !errors.Is(err, ErrOverloaded) || time.Since(begun) != 0 {
			t.Errorf("a call with every place hung: %v after %v, want ErrOverloaded at once", err, time.Since(begun))
		}
		close(release)
	})
}

func TestCallsWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, nil)
		slow := job[int]{subject: "a", limit: time.Minute, fn: func() (int, error) {
			time.Sleep(600 * time.Millisecond)
			return 1, nil
		}}
		go func() { _, _ = run(t.Context(), p, slow) }()
		synctest.Wait()
		begun := time.Now()
		if v, err := run(t.Context(), p, quick("b")); v != 7 || err != nil || time.Since(begun) != 600*time.Millisecond {
			t.Errorf("%d, %v after %v, want it served after 600ms", v, err, time.Since(begun))
		}
	})
}

func TestCancelledCallLetsGoAndItsLateValueIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, nil)
		release, late := make(chan struct{}), 0
		j := hang("connect", release)
		j.late = func(v int) { late = v }
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := run(ctx, p, j); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled call: %v", err)
		}
		close(release)
		synctest.Wait()
		if late != 1 {
			t.Error("the connection that came too late was dropped without being closed")
		}
	})
}

func TestErrorsAreTyped(t *testing.T) {
	lv := func(domain libvirt.ErrorDomain, code libvirt.ErrorNumber, msg string) error {
		return libvirt.Error{Domain: domain, Code: code, Message: msg}
	}
	for _, c := range []struct {
		err  error
		want error
	}{
		{lv(libvirt.FROM_QEMU, libvirt.ERR_NO_DOMAIN, "Domain not found"), ErrNoSuchDomain},
		{lv(libvirt.FROM_QEMU, libvirt.ERR_OPERATION_TIMEOUT, "cannot acquire state change lock"), ErrJobActive},
		{lv(libvirt.FROM_QEMU, libvirt.ERR_OPERATION_INVALID, "another migration job is already running for domain"), ErrJobActive},
		{lv(libvirt.FROM_RPC, libvirt.ERR_SYSTEM_ERROR, "Cannot write data: Broken pipe"), ErrNotConnected},
		{lv(libvirt.FROM_RPC, libvirt.ERR_INTERNAL_ERROR, "client socket is closed"), ErrNotConnected},
		{lv(libvirt.FROM_RPC, libvirt.ERR_RPC, "received hangup event on socket"), ErrNotConnected},
	} {
		if got := typed(c.err); !errors.Is(got, c.want) || !errors.As(got, new(libvirt.Error)) {
			t.Errorf("%v is typed %v, want %v with the cause", c.err, got, c.want)
		}
	}
	for _, err := range []error{
		lv(libvirt.FROM_QEMU, libvirt.ERR_OPERATION_INVALID, "domain is not running"),
		lv(libvirt.FROM_QEMU, libvirt.ERR_INTERNAL_ERROR, "unable to execute QEMU command"),
		lv(libvirt.FROM_QEMU, libvirt.ERR_SYSTEM_ERROR, "Cannot open file"),
		errors.New("other"),
	} {
		if got := typed(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestSlowConsumerLosesEventsAndIsTold(t *testing.T) {
	f := newFeed(func() time.Time { return time.Unix(5, 0) })
	for range eventBuffer + 3 {
		f.emit(Event{Kind: EventStarted, Name: "a"})
	}
	if n := f.dropped.Load(); n != 3 {
		t.Errorf("%d events lost, want 3", n)
	}
	for range eventBuffer {
		<-f.ch
	}
	f.emit(Event{Kind: EventStopped, Name: "a"})
	if first, second := <-f.ch, <-f.ch; first.Kind != EventLost || second.Kind != EventStopped || first.At.IsZero() {
		t.Errorf("after the gap came %v and %v, want the loss first", first, second)
	}
	f.emit(Event{Kind: EventStarted})
	if ev := <-f.ch; ev.Kind != EventStarted {
		t.Errorf("the loss was told twice: %v", ev)
	}
}

const uuidA, uuidB = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"

// processes makes a /proc with the given command lines and pid files.
func processes(t *testing.T, cmdlines map[int]string, pidFiles map[string]string) *pidTable {
	t.Helper()
	table := &pidTable{runDir: t.TempDir(), procDir: t.TempDir()}
	for pid, line := range cmdlines {
		dir := filepath.Join(table.procDir, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range pidFiles {
		if err := os.WriteFile(filepath.Join(table.runDir, name+".pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func TestProcessIsFoundAndVerified(t *testing.T) {
	qemu := func(id string) string {
		return "qemu-system-x86_64\x00-name\x00guest=a\x00-uuid\x00" + id + "\x00-smp\x001\x00"
	}
	for _, c := range []struct {
		what     string
		cmdlines map[int]string
		files    map[string]string
		want     int
	}{
		{"by its pid file", map[int]string{10: qemu(uuidA), 11: qemu(uuidB)}, map[string]string{"a": "10\n"}, 10},
		{"a stale pid file names another program", map[int]string{10: "sshd\x00", 12: qemu(uuidA)}, map[string]string{"a": "10\n"}, 12},
		{"a stale pid file names another VM", map[int]string{10: qemu(uuidB), 12: qemu(uuidA)}, map[string]string{"a": "10\n"}, 12},
		{"the pid file names nobody", map[int]string{12: qemu(uuidA)}, map[string]string{"a": "99\n"}, 12},
		{"the pid file is no number", map[int]string{12: qemu(uuidA)}, map[string]string{"a": "x"}, 12},
		{"no pid file", map[int]string{12: qemu(uuidA)}, nil, 12},
		{"two carry the UUID and no file tells which", map[int]string{12: qemu(uuidA), 13: qemu(uuidA)}, nil, 0},
		{"two carry the UUID and the file tells which", map[int]string{12: qemu(uuidA), 13: qemu(uuidA)}, map[string]string{"a": "13"}, 13},
		{"nobody", map[int]string{12: qemu(uuidB), 14: ""}, nil, 0},
		{"the UUID is but a prefix", map[int]string{12: qemu(uuidA + "0")}, nil, 0},
	} {
		if got := processes(t, c.cmdlines, c.files).find("a", uuidA); got != c.want {
			t.Errorf("%s: pid %d, want %d", c.what, got, c.want)
		}
	}
}
