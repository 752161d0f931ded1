package cli

import (
	"flag"
	"io"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		env       map[string]string
		args      []string
		wantAddr  string
		wantEvery time.Duration
		wantErr   string
	}{
		"defaults":                          {wantAddr: ":8080", wantEvery: time.Second},
		"the environment beats defaults":    {env: map[string]string{"P_BIND_ADDRESS": ":1"}, wantAddr: ":1", wantEvery: time.Second},
		"the command line beats both":       {env: map[string]string{"P_BIND_ADDRESS": ":1"}, args: []string{"--bind-address=:2"}, wantAddr: ":2", wantEvery: time.Second},
		"other programs' variables":         {env: map[string]string{"Q_BIND_ADDRESS": ":1"}, wantAddr: ":8080", wantEvery: time.Second},
		"a bad value names the variable":    {env: map[string]string{"P_EVERY": "soon"}, wantErr: `P_EVERY="soon"`},
		"an unknown flag is refused":        {args: []string{"--nope"}, wantErr: "nope"},
		"an empty value is a value as well": {env: map[string]string{"P_BIND_ADDRESS": ""}, wantAddr: "", wantEvery: time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			fs := flag.NewFlagSet("test", flag.ContinueOnError)
			fs.SetOutput(io.Discard)
			addr := fs.String("bind-address", ":8080", "")
			every := fs.Duration("every", time.Second, "")
			err := parse(fs, "P", tc.args, func(k string) (string, bool) { v, ok := tc.env[k]; return v, ok })
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error = %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *addr != tc.wantAddr || *every != tc.wantEvery {
				t.Errorf("got %q, %s; want %q, %s", *addr, *every, tc.wantAddr, tc.wantEvery)
			}
		})
	}
}
