package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/cli"
)

// envPrefix is what the environment twin of a flag starts with:
// --tokens-per-minute is also OPENAI_SIM_TOKENS_PER_MINUTE.
const envPrefix = "OPENAI_SIM"

// errHelp reports that the usage was printed, as asked.
var errHelp = errors.New("help requested")

// options are the command line, the environment and the config file in one.
type options struct {
	bindAddress     string
	tlsCert, tlsKey string
	// grace is how long calls in flight may take to end after a signal;
	// hanging ones are cut off then.
	grace  time.Duration
	config openaisim.Config
}

// parseOptions reads the settings: a flag wins over its environment twin, that
// over the config file, that over the default.
func parseOptions(args []string, usage io.Writer) (*options, error) {
	var (
		o        options
		file     string
		speed    float64
		tokens   int64
		requests int64
		seed     uint64
	)
	flags := flag.NewFlagSet("openai-sim", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.bindAddress, "bind-address", "127.0.0.1:9090", "address to serve on")
	flags.StringVar(&o.tlsCert, "tls-cert-file", "", "certificate to serve with TLS; needs --tls-key-file")
	flags.StringVar(&o.tlsKey, "tls-key-file", "", "private key to serve with TLS; needs --tls-cert-file")
	flags.DurationVar(&o.grace, "shutdown-grace-period", 10*time.Second, "how long calls in flight may take to end after a signal")
	flags.StringVar(&file, "config", "", "file with settings, YAML or JSON, as PUT /sim/config takes them")
	flags.Float64Var(&speed, "speed", 1, "divide every latency by this; does not speed up the limits")
	flags.Int64Var(&tokens, "tokens-per-minute", 0, "token limit of each key and model (default 2000000)")
	flags.Int64Var(&requests, "requests-per-minute", 0, "request limit of each key and model (default 10000)")
	flags.Uint64Var(&seed, "seed", 0, "seed of latency, faults and generated text")
	flags.Usage = func() {
		fmt.Fprintf(usage, "Usage: openai-sim [flags]\n\nEvery flag has an environment twin: --bind-address is %s.\n\n",
			cli.Name(envPrefix, "bind-address"))
		flags.PrintDefaults()
	}
	if err := cli.Parse(flags, envPrefix, args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		}
		return nil, fmt.Errorf("reading the flags: %w", err)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: openai-sim takes flags only", flags.Arg(0))
	}
	if file != "" {
		var err error
		if o.config, err = readConfig(file); err != nil {
			return nil, err
		}
	}
	// Only what was set, on the command line or in the environment, overrides
	// the file.
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "speed":
			o.config.Speed = speed
		case "tokens-per-minute":
			o.config.TokensPerMinute = tokens
		case "requests-per-minute":
			o.config.RequestsPerMinute = requests
		case "seed":
			o.config.Seed = seed
		}
	})
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return nil, errors.New("--tls-cert-file and --tls-key-file belong together: set both or neither")
	}
	if err := o.config.Validate(); err != nil {
		return nil, fmt.Errorf("invalid settings: %w", err)
	}
	return &o, nil
}

// readConfig reads a settings file.
func readConfig(file string) (openaisim.Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return openaisim.Config{}, fmt.Errorf("reading --config: %w", err)
	}
	document, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return openaisim.Config{}, fmt.Errorf("reading --config %s: %w", file, err)
	}
	config, err := openaisim.DecodeConfig(document, openaisim.Config{})
	if err != nil {
		return openaisim.Config{}, fmt.Errorf("--config %s: %w", file, err)
	}
	return config, nil
}
