package simulate

func newReactive() policy        { return idle{} }
func newSandpiper() policy       { return idle{} }
func newNSigma() policy          { return idle{} }
func newOracle() policy          { return idle{} }
func newAgents(o Options) policy { return idle{} }
