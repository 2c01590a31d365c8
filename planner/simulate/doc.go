// Package simulate replays recorded demand of VMs over a set of hosts and lets
// one policy move the VMs. It answers what a policy would have cost: demand
// that waited, migrations, energy.
//
// The model is the power-aware part of CloudSim 3.0.3 (Beloglazov and Buyya,
// CCPE 24(13), 2012), written anew from its definition: demand is interpolated
// between samples of five minutes; a host shares its capacity in proportion to
// requests; a VM runs at 90 % while it is copied, and shows 10 % of its request
// at the destination; energy follows SPECpower tables. With Setup as PlanetLab
// gives it the published policies come out as CloudSim gives them (see
// TestCloudSimFidelity), artefacts included: memory is not enforced after the
// start, and a VM without demand is deleted. Setup.Corrected mends both.
//
// The policy «headroom» is no model of headroom: it runs predict.Forecaster,
// planner.Decide, planner.MakeOffer and planner.Choose themselves, one planner
// per host, on the demand seen so far.
//
// The package is pure: traces arrive as values, randomness comes from a seed,
// and a caller that has cores to spare passes Options.Each. The same arguments
// give the same result to the last digit. It may import planner, predict and
// gonum, and nothing else of this module.
package simulate
