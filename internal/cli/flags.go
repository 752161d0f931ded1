// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// EnvName is the environment variable of a flag: the prefix and the flag's name in capitals, with underscores. Flag
// bind-address of prefix SCAN_API is SCAN_API_BIND_ADDRESS.
func EnvName(prefix, flagName string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// Parse sets the flags from the environment and then from args, so that the command line wins. Its error names each
// invalid environment variable and the first invalid argument, and what is allowed instead; it is flag.ErrHelp if args
// ask for help.
func Parse(fs *flag.FlagSet, prefix string, args []string, lookup func(string) (string, bool)) error {
	fs.SetOutput(io.Discard) // Execute prints the errors and the usage
	fs.Usage = func() {}
	var invalid error // the value that the last call of Set refused
	fs.VisitAll(func(f *flag.Flag) { f.Value = &checkedValue{Value: f.Value, name: f.Name, invalid: &invalid} })
	defer fs.VisitAll(func(f *flag.Flag) { f.Value = f.Value.(*checkedValue).Value })

	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := EnvName(prefix, f.Name)
		value, ok := lookup(name)
		if !ok || f.Name == versionFlag {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s (flag --%s) = %q: %w", name, f.Name, value, err))
		}
	})
	invalid = nil
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil && invalid != nil:
		err = invalid
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: there are only flags", fs.Arg(0))
	}
	return errors.Join(append(errs, err)...)
}

// checkedValue is a flag whose errors say what is allowed.
type checkedValue struct {
	flag.Value
	name    string
	invalid *error
}

// Set implements flag.Value.
func (v *checkedValue) Set(value string) error {
	err := v.Value.Set(value)
	if err == nil {
		return nil
	}
	if want := allowed(v.Value); want != "" {
		err = errors.New(want)
	}
	*v.invalid = fmt.Errorf("--%s=%q: %w", v.name, value, err)
	return err
}

// IsBoolFlag makes --name short for --name=true.
func (v *checkedValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// allowed says what a flag of the standard library accepts; empty for other flags, whose errors say it themselves.
func allowed(value flag.Value) string {
	getter, ok := value.(flag.Getter)
	if !ok {
		return ""
	}
	switch getter.Get().(type) {
	case bool:
		return "want true or false"
	case int, int64:
		return "want a whole number"
	case uint, uint64:
		return "want a whole number of 0 or more"
	case float64:
		return "want a number"
	case time.Duration:
		return "want a duration such as 500ms, 10s or 2m"
	}
	return ""
}

// printUsage describes the program and its flags.
func printUsage(out io.Writer, c Command, fs *flag.FlagSet) {
	fmt.Fprintf(out, "%s\n\nUsage: %s [flags]\n\nA flag overrides its environment variable, which overrides the default.\n\n", c.Summary, c.Name)
	fs.VisitAll(func(f *flag.Flag) {
		kind, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(out, "  %s\n        %s\n", strings.TrimSpace("--"+f.Name+" "+kind), usage)
		if f.Name == versionFlag {
			return
		}
		fmt.Fprintf(out, "        Environment: %s.", EnvName(c.EnvPrefix, f.Name))
		if f.DefValue != "" {
			fmt.Fprintf(out, " Default: %s.", f.DefValue)
		}
		fmt.Fprintln(out)
	})
}

// DefaultNamespace is the default of --namespace: the pod's namespace, if its template passes it as POD_NAMESPACE, or
// else the one that config/default creates.
func DefaultNamespace(getenv func(string) string) string {
	if namespace := getenv("POD_NAMESPACE"); namespace != "" {
		return namespace
	}
	return "scans"
}
