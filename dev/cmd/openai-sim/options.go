// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/cli"
)

// envPrefix begins the environment variable of each flag: --speed is OPENAI_SIM_SPEED.
const envPrefix = "OPENAI_SIM"

// options are the values of the flags, and the settings of the simulator that validate derives from them.
type options struct {
	flags           *flag.FlagSet
	bindAddress     string
	tlsCert, tlsKey string
	// grace is how long calls in flight may take after a signal, before they are ended.
	grace    time.Duration
	file     string
	speed    float64
	tokens   int64
	requests int64
	seed     uint64
	config   openaisim.Config
}

func (o *options) bind(fs *flag.FlagSet, _ func(string) string) {
	o.flags = fs
	fs.StringVar(&o.bindAddress, "bind-address", "127.0.0.1:9090", "Address of the provider's endpoints and of the controls, as host:port.")
	fs.StringVar(&o.tlsCert, "tls-cert-file", "", "Certificate to serve HTTPS with, in PEM. Empty means plain HTTP.")
	fs.StringVar(&o.tlsKey, "tls-key-file", "", "Private key of --tls-cert-file, in PEM.")
	fs.DurationVar(&o.grace, "shutdown-grace-period", 10*time.Second, "Time that calls in flight may take after a signal before they are ended. 0 ends them at once.")
	fs.StringVar(&o.file, "config", "", "File with settings as PUT /sim/config takes them, in YAML or JSON. Flags override it. Empty means the defaults.")
	fs.Float64Var(&o.speed, "speed", 1, "Factor that every latency is divided by. The limits stay those of a real minute. 0 means 1.")
	fs.Int64Var(&o.tokens, "tokens-per-minute", 0, "Limit of the tokens of each key and model, per minute. 0 means 2000000.")
	fs.Int64Var(&o.requests, "requests-per-minute", 0, "Limit of the requests of each key and model, per minute. 0 means 10000.")
	fs.Uint64Var(&o.seed, "seed", 0, "Seed of latencies, faults and generated text. The same seed gives the same ones.")
}

// validate reads the file and checks the settings. A flag overrides its environment variable, which overrides the file,
// which overrides the default.
func (o *options) validate() error {
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return errors.New("--tls-cert-file and --tls-key-file must be set together")
	}
	if err := errors.Join(
		cli.AtLeast("shutdown-grace-period", o.grace, 0),
		cli.AtLeast("speed", o.speed, 0),
		cli.AtLeast("tokens-per-minute", o.tokens, 0),
		cli.AtLeast("requests-per-minute", o.requests, 0),
	); err != nil {
		return err
	}
	if o.file != "" {
		var err error
		if o.config, err = readConfig(o.file); err != nil {
			return err
		}
	}
	o.flags.Visit(func(f *flag.Flag) { // those that were set
		switch f.Name {
		case "speed":
			o.config.Speed = o.speed
		case "tokens-per-minute":
			o.config.TokensPerMinute = o.tokens
		case "requests-per-minute":
			o.config.RequestsPerMinute = o.requests
		case "seed":
			o.config.Seed = o.seed
		}
	})
	if err := o.config.Validate(); err != nil {
		return fmt.Errorf("check the settings: %w", err)
	}
	return nil
}

// readConfig reads a settings file.
func readConfig(file string) (openaisim.Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return openaisim.Config{}, fmt.Errorf("read --config: %w", err)
	}
	document, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return openaisim.Config{}, fmt.Errorf("read --config %s: %w", file, err)
	}
	config, err := openaisim.DecodeConfig(document, openaisim.Config{})
	if err != nil {
		return openaisim.Config{}, fmt.Errorf("--config %s: %w", file, err)
	}
	return config, nil
}
