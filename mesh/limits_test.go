package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSlowCallersHoldUpNobody: more callers than there are places dribble their
// requests; others are served, and the slow ones are cut off.
func TestSlowCallersHoldUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(2)
		all[1].Handle("echo", func(_ context.Context, _ HostID, b []byte) ([]byte, error) { return b, nil })
		conf := w.certs.identityOf(idOf(1), "lab").clientTLS(idOf(2))
		for _, begin := range []string{"", "POST /rpc/v1/echo HTTP/1.1\r\nHost: x\r\n", "POST /rpc/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"} {
			var wg sync.WaitGroup
			start := time.Now()
			for range maxConcurrent + 6 {
				wg.Go(func() {
					raw, err := w.dial(t.Context(), ipOf(1), all[1].rpc.addr)
					if err != nil {
						t.Error(err)
						return
					}
					c := tls.Client(raw, conf)
					if begin != "" {
						if _, err := io.WriteString(c, begin); err != nil {
							t.Error(err)
						}
					}
					_, _ = io.Copy(io.Discard, raw) // until the server has had enough
					raw.Close()
				})
			}
			synctest.Wait()
			if out, err := all[0].Call(t.Context(), idOf(2), "echo", []byte("x")); err != nil || string(out) != "x" {
				t.Errorf("beside callers stuck after %q: %q %v", begin, out, err)
			}
			wg.Wait()
			if took := time.Since(start); took > readTimeout+handleTimeout {
				t.Errorf("callers stuck after %q are cut off after %v", begin, took)
			}
		}
		stopAll(t, all...)
	})
}

// TestConcurrencyIsBounded: what exceeds the places is told to come again.
func TestConcurrencyIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(20)
		release := make(chan struct{})
		var mu sync.Mutex
		busy, most := 0, 0
		all[0].Handle("wait", func(context.Context, HostID, []byte) ([]byte, error) {
			mu.Lock()
			busy++
			most = max(most, busy)
			mu.Unlock()
			<-release
			mu.Lock()
			busy--
			mu.Unlock()
			return nil, nil
		})
		var wg sync.WaitGroup
		var refused int
		for i := range maxConcurrent + 10 {
			wg.Go(func() {
				// A caller keeps to four connections: so there are many callers.
				_, err := all[1+i%19].Call(t.Context(), idOf(1), "wait", nil)
				var remote *RemoteError
				if err != nil && (!errors.As(err, &remote) || remote.Code != 503) {
					t.Error(err)
				}
				if err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Second)
		close(release)
		wg.Wait()
		if most != maxConcurrent || refused != 10 || all[0].Stats().Refused["rpc_overloaded"] != 10 {
			t.Errorf("%d at a time, %d refused, counted %v", most, refused, all[0].Stats().Refused)
		}
		stopAll(t, all...)
	})
}

// TestCloseEndsHandlersAndCalls: both see it at once, and Close waits for them.
func TestCloseEndsHandlersAndCalls(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(2)
		ended := make(chan struct{})
		all[1].Handle("long", func(ctx context.Context, _ HostID, _ []byte) ([]byte, error) {
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			close(ended)
			return nil, ctx.Err()
		})
		result := make(chan error, 1)
		go func() {
			_, err := all[0].Call(t.Context(), idOf(2), "long", nil)
			result <- err
		}()
		time.Sleep(time.Millisecond * 10)
		begin := time.Now()
		closed := make(chan error, 1)
		go func() { closed <- all[0].Close() }()
		if err := <-result; !errors.Is(err, ErrClosed) || time.Since(begin) > time.Millisecond {
			t.Errorf("the call ended with %v after %v", err, time.Since(begin))
		}
		// A second Close would wait on a lock, which stops virtual time.
		if err := errors.Join(<-closed, all[1].Close()); err != nil {
			t.Error(err)
		}
		select {
		case <-ended:
		default:
			t.Error("Close did not wait for the handler")
		}
	})
}

// TestCertificateIsRenewedWithoutRestart, and a bad renewal changes nothing.
func TestCertificateIsRenewedWithoutRestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(2)
		all[1].Handle("echo", func(_ context.Context, _ HostID, b []byte) ([]byte, error) { return b, nil })
		call := func(when string) {
			t.Helper()
			time.Sleep(31 * time.Second) // kept connections end
			if _, err := all[0].Call(t.Context(), idOf(2), "echo", nil); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		call("at first")
		until := all[1].Stats().CertificateExpires
		print := member(t, all[0], idOf(2)).Tags.CertFingerprint

		// A certificate of another host must not be taken into use.
		w.certs.replace(idOf(2), w.certs.host("thief"))
		call("with another host's files in place")
		if s := all[1].Stats(); s.Refused["own_certificate"] != 1 || !s.CertificateExpires.Equal(until) {
			t.Errorf("after a wrong renewal: %v, expires %v", s.Refused, s.CertificateExpires)
		}
		fresh := w.certs.dir + "/fresh"
		w.certs.issue(fresh, idOf(2), time.Now())
		w.certs.replace(idOf(2), fresh)
		call("with renewed files")
		if s := all[1].Stats(); !s.CertificateExpires.After(until) {
			t.Errorf("still expires %v", s.CertificateExpires)
		}
		time.Sleep(2 * fingerprintEvery)
		if got := member(t, all[0], idOf(2)).Tags.CertFingerprint; got == print || got == "" {
			t.Errorf("the peers are told the fingerprint %q, before it was %q", got, print)
		}

		// Without a renewal, the end comes for kept connections, too.
		dying := w.certs.dir + "/dying"
		w.certs.issue(dying, idOf(2), time.Now().Add(-hostLife+time.Minute))
		w.certs.replace(idOf(2), dying)
		call("with files that soon expire")
		time.Sleep(time.Until(all[1].Stats().CertificateExpires) - 10*time.Second)
		for i := range 20 {
			_, err := all[0].Call(t.Context(), idOf(2), "echo", nil)
			if expired := i > 12; expired && !strings.Contains(fmt.Sprint(err), "certificate") {
				t.Errorf("%d s after the end: %v", i-10, err)
			}
			time.Sleep(time.Second)
		}
		stopAll(t, all...)
	})
}

// TestCallerExpiresOnKeptConnection: the handshake is long past, the certificate
// is not good any more.
func TestCallerExpiresOnKeptConnection(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.start(1, func(c *Config) { c.Join = nil })
		m.Handle("echo", func(_ context.Context, _ HostID, b []byte) ([]byte, error) { return b, nil })
		w.certs.issue(w.certs.dir+"/dying", "caller", time.Now().Add(-hostLife+30*time.Second))
		pair, err := tls.LoadX509KeyPair(w.certs.dir+"/dying/"+HostCertName, w.certs.dir+"/dying/"+HostKeyName)
		if err != nil {
			t.Fatal(err)
		}
		dials := 0
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}},
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				dials++
				return w.dial(ctx, ipOf(2), addr)
			},
		}
		var got []int
		for range 5 {
			resp, err := tr.RoundTrip(httptest.NewRequest("POST", "https://"+m.rpc.addr+"/rpc/v1/echo", strings.NewReader("x")))
			if err != nil {
				got = append(got, 0)
			} else {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				got = append(got, resp.StatusCode)
			}
			if len(got) == 4 && dials != 1 {
				t.Errorf("%d connections before the refusal, want one", dials)
			}
			time.Sleep(10 * time.Second)
		}
		if diff := cmp.Diff([]int{200, 200, 200, 403, 0}, got); diff != "" || m.Stats().Refused["rpc_expired"] == 0 {
			t.Errorf("answers (-want +got):\n%s%v", diff, m.Stats().Refused)
		}
		tr.CloseIdleConnections()
		stopAll(t, m)
	})
}
