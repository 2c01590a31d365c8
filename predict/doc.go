// Package predict turns one series of demand samples into a distribution of
// what the demand will be: quantiles for each of the next steps, and quantiles
// of the peak over the whole horizon, which are calibrated on their own because
// the quantiles of single steps do not give the quantile of the peak.
//
// A Forecaster runs several members (naive, exponential smoothing, damped
// trend, decaying histogram, ...) side by side, scores each of them on what
// really happened, and uses the one with the smallest trailing pinball loss. No
// single method wins on every trace, so the choice is made per series and may
// change; a member that loses to naive is switched off and shown as such. On
// top of the choice stand two corrections: a rise member, which extrapolates a
// demand that is climbing now without waiting for losses to arrive, and an
// adaptive conformal offset, which holds the promised coverage when the members
// are over-confident.
//
// Sample and step differ: values arrive once per Config.Sample and a step is
// the mean over Config.Step of them. A missing value is NaN and stays missing:
// it is never read as zero demand. A negative or infinite value is a broken
// reading and counts as missing too.
//
// The package is pure: no clock, no random source, no file, no goroutine, no
// logger. The same values in the same order give the same forecast bit for bit.
// A Forecaster belongs to one goroutine at a time; different forecasters share
// nothing. It must not import bpf, planner, mesh or agent.
//
// Memory is bounded by the configuration: every window is a ring of fixed size.
package predict
