// Package load keeps a number of scans unfinished, in a closed loop, and holds what becomes of them against the
// product's contract: every scan that was accepted ends, once, and nothing is paid for twice without a reason.
//
// What happens to scans is taken from a watch of their objects; what was paid for, from the simulated provider's
// own counters.
package load
