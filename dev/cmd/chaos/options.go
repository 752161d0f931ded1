// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"path/filepath"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/internal/cli"
)

// envPrefix begins the environment variable of each flag: --rounds is SCAN_CHAOS_ROUNDS.
const envPrefix = "SCAN_CHAOS"

// options are the values of the flags.
type options struct {
	rounds     int
	seed       uint64
	only       string
	unfinished int
	speed      float64
	k8sDir     string
	binDir     string
	configDir  string
	manifests  string
	dir        string
	limit      time.Duration
}

func (o *options) bind(fs *flag.FlagSet, _ func(string) string) {
	fs.IntVar(&o.rounds, "rounds", 20, "Number of rounds, one fault each. 1 or more.")
	fs.Uint64Var(&o.seed, "seed", 0, "Seed of the choice of faults and targets. 0 means one from the clock.")
	fs.StringVar(&o.only, "faults", "", "Faults to choose from, separated by commas: "+strings.Join(faultNames(), ", ")+". Empty means all.")
	fs.IntVar(&o.unfinished, "unfinished", 120, "Number of scans to keep unfinished. 1 or more.")
	fs.Float64Var(&o.speed, "speed", 3, "Factor that the simulated provider divides its latencies by. More than 0.")
	fs.StringVar(&o.k8sDir, "k8s-dir", filepath.Join("bin", "k8s"), "Directory of etcd and kube-apiserver.")
	fs.StringVar(&o.binDir, "bin-dir", "bin", "Directory of the product's programs.")
	fs.StringVar(&o.configDir, "config", "config", "Directory of the CRDs and roles.")
	fs.StringVar(&o.manifests, "manifests", filepath.Join("dev", "cmd", "chaos", "manifests"), "Directory of the budgets and pools.")
	fs.StringVar(&o.dir, "dir", "", "Directory of the stack's state and logs. Empty means a temporary one, which is removed if the contract held.")
	fs.DurationVar(&o.limit, "limit", time.Hour, "Time after which the run is given up. More than 0.")
}

func (o *options) validate() error {
	return errors.Join(
		cli.AtLeast("rounds", o.rounds, 1),
		cli.AtLeast("unfinished", o.unfinished, 1),
		cli.Above("speed", o.speed, 0),
		cli.Above("limit", o.limit, 0),
	)
}
