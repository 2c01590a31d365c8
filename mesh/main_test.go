package mesh

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds the package to ending what it starts. Serf leaves one goroutine
// behind when its Create fails, as TestStartRefuses makes it do; nobody else can
// end it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/hashicorp/serf/serf.(*serfQueries).stream"))
}
