// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"flag"
	"io"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// logFlags are the flags of zap: their help texts, and what a value must be.
var logFlags = map[string]struct{ usage, allowed string }{
	"zap-devel": {
		"Log for a developer: text instead of JSON, level debug, and stack traces from warnings on. The other --zap flags override it.",
		"want true or false",
	},
	"zap-encoder":          {"Format of the log: json or console. Default: json.", "want json or console"},
	"zap-log-level":        {"Least level to log: debug, info, error, panic, or a number above 0, of which higher ones log more than debug does. Default: info.", "want debug, info, error, panic or a number above 0"},
	"zap-stacktrace-level": {"Least level to log with a stack trace: info, error or panic. Default: error.", "want info, error or panic"},
	"zap-time-encoding": {
		"Format of the time in the log: epoch, millis, nanos, iso8601, rfc3339 or rfc3339nano. Default: rfc3339.",
		"want epoch, millis, nanos, iso8601, rfc3339 or rfc3339nano",
	},
}

// bindLogFlags declares the flags of zap and returns what makes the logger once they are parsed.
func bindLogFlags(fs *flag.FlagSet) func(stderr io.Writer) logr.Logger {
	var options zap.Options
	options.BindFlags(fs)
	for name, texts := range logFlags {
		f := fs.Lookup(name)
		f.Usage = texts.usage
		if _, ok := f.Value.(flag.Getter); !ok {
			f.Value = logValue{Value: f.Value, allowed: texts.allowed}
		}
	}
	return func(stderr io.Writer) logr.Logger { return zap.New(zap.UseFlagOptions(&options), zap.WriteTo(stderr)) }
}

// logValue is a flag of zap whose errors say what is allowed.
type logValue struct {
	flag.Value
	allowed string
}

// Set implements flag.Value.
func (v logValue) Set(value string) error {
	if err := v.Value.Set(value); err != nil {
		return errors.New(v.allowed)
	}
	return nil
}

// setLoggers has the libraries log to the program's log: the lines of controller-runtime, and those of client-go about
// watches and leader election, which come through klog.
func setLoggers(logger logr.Logger) {
	log.SetLogger(logger)
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
}
