package mesh

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds the package to ending what it starts.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
