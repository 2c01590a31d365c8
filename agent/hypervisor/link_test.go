package hypervisor

import (
	"errors"
	"testing"
)

// TestConnectionThatComesAfterCloseIsNotKept: Close and a reconnection may meet.
func TestConnectionThatComesAfterCloseIsNotKept(t *testing.T) {
	d, err := Open(t.Context(), Options{URI: "test:///default"})
	if errors.Is(err, ErrLibvirtMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	late := &link{d: d, closed: true, err: ErrNotConnected}
	if late.connect(t.Context()) || late.current() != nil || late.state() == nil {
		t.Errorf("a closed link has connected: %v", late.state())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.link.state(); !errors.Is(err, ErrNotConnected) {
		t.Errorf("after Close: %v", err)
	}
}
