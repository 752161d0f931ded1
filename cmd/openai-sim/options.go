package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/eco2-team/scan-operator/internal/openaisim"
)

// envPrefix is what the environment twin of a flag starts with:
// --tokens-per-minute is also OPENAI_SIM_TOKENS_PER_MINUTE.
const envPrefix = "OPENAI_SIM_"

// errHelp reports that the usage was printed, as asked.
var errHelp = errors.New("help requested")

// options are the command line, the environment and the config file in one.
type options struct {
	bindAddress     string
	tlsCert, tlsKey string
	config          openaisim.Config
}

// parseOptions reads the settings: a flag wins over its environment twin, that
// over the config file, that over the default.
func parseOptions(args []string, getenv func(string) string, usage io.Writer) (*options, error) {
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
	flags.StringVar(&file, "config", "", "file with settings, YAML or JSON, as PUT /sim/config takes them")
	flags.Float64Var(&speed, "speed", 1, "divide every latency by this; does not speed up the limits")
	flags.Int64Var(&tokens, "tokens-per-minute", 0, "token limit of each key and model (default 2000000)")
	flags.Int64Var(&requests, "requests-per-minute", 0, "request limit of each key and model (default 10000)")
	flags.Uint64Var(&seed, "seed", 0, "seed of latency, faults and generated text")
	flags.Usage = func() {
		fmt.Fprintf(usage, "Usage: openai-sim [flags]\n\nEvery flag has an environment twin: --bind-address is %sBIND_ADDRESS.\n\n", envPrefix)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		}
		return nil, fmt.Errorf("reading the command line: %w", err)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: openai-sim takes flags only", flags.Arg(0))
	}
	set, err := applyEnvironment(flags, getenv)
	if err != nil {
		return nil, err
	}
	if file != "" {
		if o.config, err = readConfig(file); err != nil {
			return nil, err
		}
	}
	for name, apply := range map[string]func(){
		"speed":               func() { o.config.Speed = speed },
		"tokens-per-minute":   func() { o.config.TokensPerMinute = tokens },
		"requests-per-minute": func() { o.config.RequestsPerMinute = requests },
		"seed":                func() { o.config.Seed = seed },
	} {
		if set[name] {
			apply()
		}
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return nil, errors.New("--tls-cert-file and --tls-key-file belong together: set both or neither")
	}
	if err := o.config.Validate(); err != nil {
		return nil, fmt.Errorf("invalid settings: %w", err)
	}
	return &o, nil
}

// applyEnvironment sets the flags that the command line left out from the
// environment, and returns the names of all flags that are set.
func applyEnvironment(flags *flag.FlagSet, getenv func(string) string) (map[string]bool, error) {
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	var errs []error
	flags.VisitAll(func(f *flag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := getenv(name)
		if set[f.Name] || value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
		set[f.Name] = true
	})
	return set, errors.Join(errs...)
}

// readConfig reads a settings file.
func readConfig(file string) (openaisim.Config, error) {
	raw, err := os.ReadFile(file) //nolint:gosec // the user names the file
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
